"""Small archives of phantoms that tests make, change and run over."""

import csv
from pathlib import Path

from mammoscan.core.console import Console
from mammoscan.core.domain import Density, Laterality, View
from mammoscan.run import pipeline
from mammoscan.run.config import RunConfig
from mammoscan.synthetic import phantom
from mammoscan.synthetic.dicom import Subject, file_bytes, mammogram_dataset

ANNA = Subject("ANNA-1", "Zyxplanted^Anna", birth_date="19500101", study_key="a")
BERTA = Subject("BERTA-2", "Zyxplanted^Berta", birth_date="19600101", study_key="b")


def image(subject, side=Laterality.LEFT, view=View.CC, *, seed=1, **options):
    """A data set: each seed is a picture of its own; everything else decides the identity."""
    pixels, _ = phantom.render(phantom.Spec(side, view, Density.B, height=450, width=360, patient=seed), seed)
    return mammogram_dataset(pixels, laterality=side, view=view, subject=subject, spacing_mm=0.54, **options)


def write(path: Path, ds) -> Path:
    """Write a data set as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_bytes(ds))
    return path


def archive(root: Path) -> Path:
    """Anna's study of two images, Berta's of one."""
    write(root / "anna-cc.dcm", image(ANNA))
    write(root / "anna-mlo.dcm", image(ANNA, view=View.MLO, seed=2))
    write(root / "berta-cc.dcm", image(BERTA, seed=3))
    return root


def run(root, out, *, console=None, **options):
    """A run in this process."""
    options = {"settle_seconds": 0, "workers": 1, **options}
    return pipeline.run(RunConfig(archive=Path(root), out=Path(out), **options), console or Console(quiet=True))


def table(out, name):
    """A table's rows."""
    with (out / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
