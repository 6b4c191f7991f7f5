"""Tables that the tests of the audit write and read, and the command that they run."""

import csv

from click.testing import CliRunner

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


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
