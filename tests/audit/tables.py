"""Tables that the tests of the audit write and read, and the command that they run."""

import csv
import io

import PIL.Image
import pytest
from click.testing import CliRunner

from mammoscan.audit import figures
from mammoscan.cli import main

IMAGES = "path sop_instance_uid study_instance_uid patient_id laterality view age_years density manufacturer study_date malignancy".split()
FINDINGS = "sop_instance_uid number kind centre_x centre_y x0 y0 x1 y1 area_px malignancy".split()


def write_csv(path, heading, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows(rows)
    return path


def run_audit(*arguments):
    return CliRunner().invoke(main, ["audit", *map(str, arguments), "--replicates", "100"])


def measured(*arguments):
    """The same, for who reads tables, words and the status: every figure is an empty one, since drawing takes half the time."""
    dot = io.BytesIO()
    PIL.Image.new("L", (1, 1)).save(dot, "PNG")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "svg", lambda _: "<svg viewBox='0 0 1 1'></svg>")
        patch.setattr(figures, "png", lambda _: dot.getvalue())
        return run_audit(*arguments)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
