"""The real films of ``../shared/data`` as headers and images, for tests that need them.

Cited wherever figures from them are shown: CBIS-DDSM (Sawyer-Lee et al.,
10.7937/K9/TCIA.2016.7O02S9CY), mini-MIAS (Suckling et al. 1994, Excerpta Medica ICS 1069),
CDD-CESM (Khaled et al., 10.7937/29kw-ae92), RSNA 2022 screening mammography.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoscan.domain import (
    Header,
    Image,
    Laterality,
    Patient,
    Sex,
    SourceFile,
    Spacing,
    SpacingSource,
    StudyFacts,
    View,
)

DATA = Path(__file__).parents[2].parent / "shared" / "data"
# CBIS and RSNA files are stretched to a square; the original ratio of width to height is about 0.6.
CBIS_WIDTH = 480


def available() -> bool:
    return (DATA / "mias" / "labels.csv").is_file()


SKIP = pytest.mark.skipif(not available(), reason="needs the real films in ../shared/data")


@dataclass(frozen=True, slots=True)
class Film:
    """One film with its truth: rows of labels.csv, and (x, y, radius) or boxes in image pixels."""

    source: str
    name: str
    patient: str
    path: Path
    header: Header
    rows: tuple[dict[str, str], ...]

    def image(self) -> Image:
        pixels = cv2.imread(str(self.path), cv2.IMREAD_GRAYSCALE)
        if self.source == "cbis-mass":
            pixels = cv2.resize(pixels, (CBIS_WIDTH, pixels.shape[0]), interpolation=cv2.INTER_AREA)
        assert pixels.shape == (self.header.rows, self.header.columns), self.name
        return Image(self.header, pixels.astype(np.float32) / 255.0, np.zeros(pixels.shape, bool))

    def circles(self) -> list[tuple[float, float, float]]:
        return [(float(r["x"]), float(r["y"]), float(r["radius"])) for r in self.rows if r.get("radius")]

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """(x0, y0, x1, y1) of CBIS, in the pixels of ``image()``."""
        f = CBIS_WIDTH / 800
        return [
            (float(r["x"]) * f, float(r["y"]), (float(r["x"]) + float(r["w"])) * f, float(r["y"]) + float(r["h"]))
            for r in self.rows
        ]

    def not_breast(self) -> np.ndarray:
        return cv2.imread(str(DATA / "mias" / "not-breast" / f"{self.name}.png"), cv2.IMREAD_GRAYSCALE) > 127

    def lesion_mask(self) -> np.ndarray:
        return cv2.imread(str(DATA / "cesm" / "masks" / self.path.name), cv2.IMREAD_GRAYSCALE) > 127


def header(
    *, name: str, patient: str, rows: int, columns: int, laterality: str, view: str, mm: float | None, path: Path
) -> Header:
    """A header with what the sets say and nothing else."""
    size = path.stat().st_size if path.exists() else 0
    return Header(
        file=SourceFile(path, path.name, size, 0),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
        sop_instance_uid="2.25." + str(int.from_bytes(name.encode()[:14], "big")),
        series_instance_uid="2.25.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="MG",
        series_number=None,
        instance_number=None,
        patient=Patient(patient, "", "", "", Sex.UNKNOWN, ""),
        study=StudyFacts("2.25.2", "", "", "", "", "", "", ""),
        age=None,
        laterality=Laterality(laterality),
        view=View(view) if view in View.__members__ else View.UNKNOWN,
        view_modifiers=(),
        density=None,
        manufacturer="",
        manufacturer_model="",
        spacing=Spacing(mm, mm, SpacingSource.PIXEL_SPACING) if mm else None,
        presentation_intent="FOR PRESENTATION",
        photometric="MONOCHROME2",
        rows=rows,
        columns=columns,
        bits_stored=8,
        patient_orientation=(),
        content_date="",
        content_time="",
        acquisition_date="",
        implant=None,
        partial_view=None,
        magnification=None,
        burned_in=None,
        lossy=None,
        flags=(),
        skip=None,
    )


def _load(source, name_column, suffix, size, mm) -> list[Film]:
    rows: dict[str, list[dict[str, str]]] = {}
    with (DATA / source / "labels.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            rows.setdefault(row[name_column], []).append(row)
    films = []
    for name, found in sorted(rows.items()):
        path = DATA / source / "images" / (name if name.endswith(suffix) else name + suffix)
        first = found[0]
        h = header(
            name=name, patient=first["patient"], rows=size[1], columns=size[0], laterality=first["laterality"],
            view=first["view"], mm=mm, path=path,
        )  # fmt: skip
        films.append(Film(source, name.removesuffix(suffix), first["patient"], path, h, tuple(found)))
    return films


def mias() -> list[Film]:
    """258 films of 1024 x 1024, 0.2 mm a pixel."""
    return _load("mias", "image", ".png", (1024, 1024), 0.2)


def cbis() -> list[Film]:
    """1,231 film views, 480 x 800 after the stretch is undone; pixel size unknown."""
    return _load("cbis-mass", "file", ".jpg", (CBIS_WIDTH, 800), None)


def cesm() -> list[Film]:
    """255 digital views of 512 x 512 (padded); pixel size unknown."""
    return _load("cesm", "image", ".jpg", (512, 512), None)
