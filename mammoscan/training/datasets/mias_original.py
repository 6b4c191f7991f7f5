"""mini-MIAS as published: ``mdb001.pgm`` ... and ``Info.txt`` (Suckling et al. 1994, Excerpta Medica ICS 1069).

A line is `` mdb001 G CIRC B 535 425 197``: film, background tissue (F, G, D), class, severity (B, M),
centre and radius in pixels, y counted from the **bottom left** corner of 1024 x 1024 pixels of 0.2 mm.
``NORM`` stands alone; ``*NOTE 3*``, or nothing, stands for the place of calcifications that are spread
over the film. Films come in pairs of one patient, MLO, odd numbers right and even numbers left.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mammoscan.core.domain import Laterality, View
from mammoscan.core.errors import LabelError
from mammoscan.training.datasets import images, tables
from mammoscan.training.datasets.film import (
    ASYMMETRY,
    BENIGN,
    CALCIFICATION,
    DISTORTION,
    MALIGNANT,
    MASS,
    NORMAL,
    Film,
    Lesion,
    worst,
)
from mammoscan.training.datasets.tables import Row
from mammoscan.training.datasets.traits import Readings, Traits

if TYPE_CHECKING:
    from pathlib import Path

SIDE_PX, MM = 1024, 0.2
KIND = {"CALC": CALCIFICATION, "CIRC": MASS, "SPIC": MASS, "MISC": MASS, "ARCH": DISTORTION, "ASYM": ASYMMETRY}
SEVERITY = {"B": BENIGN, "M": MALIGNANT}
TRAITS = Traits(
    cite="mini-MIAS, Suckling et al. 1994, Excerpta Medica ICS 1069, 375-378",
    terms="research only",
    limits=("Film scans and resized digital views; mini-MIAS is one archive, MLO only.",),
    readings=Readings(0.3),
    bars=(
        ("findings against random normal places", 0.95),
        ("malignant against everything else, true boxes and random places", 0.90),
        ("malignant against benign, true boxes", 0.75),
        ("malignant against normal films", 0.80),
        ("malignant against normal films: sensitivity at specificity 0.8", 0.70),
        ("malignant findings marked at 1 false marks a film", 0.60),
        ("malignant findings marked at 2 false marks a film", 0.75),
        ("lesions hit by the first 20 regions of their image", 0.85),
        ("density F, G, D: accuracy", 0.78),
        ("density F, G, D: quadratic kappa", 0.82),
    ),
)
_FILM = re.compile(r"\s*mdb\d{3}\b", re.IGNORECASE)
_COLUMNS = ("film", "tissue", "class", "severity", "x", "y", "radius")
_TISSUE = {t.lower(): t for t in "FGD"}
_CLASS = {k.lower(): k for k in (*KIND, "NORM")}
_SEVERITY = {k.lower(): v for k, v in SEVERITY.items()}


def info_file(folder: Path) -> Path | None:
    """``Info.txt`` of a folder, if it lists films."""
    for path in sorted(p for p in folder.iterdir() if p.name.lower() == "info.txt" and p.is_file()):
        if any(_FILM.match(line) for line in _lines(path)):
            return path
    return None


def read(info: Path) -> list[Film]:
    """The films that ``Info.txt`` lists, from its folder or one below it (``all-mias``).

    Raises
    ------
    LabelError
        With the line, for an unknown code, a place outside the film, a contradiction or a missing film.
    """
    films: dict[str, list[Row]] = {}
    for number, line in enumerate(_lines(info), 1):
        if _FILM.match(line):
            row = _row(info, number, line)
            films.setdefault(row.get("film").lower(), []).append(row)
    places = {p.stem.lower(): p for p in sorted(info.parent.rglob("*")) if p.suffix.lower() == ".pgm"}
    return [_film(name, rows, places.get(name)) for name, rows in sorted(films.items())]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise LabelError(f"cannot be read: {error.strerror}", path=path, remedy="check the file") from error


def _row(info: Path, number: int, line: str) -> Row:
    words = line.split("*", 1)[0].split()  # what follows a star is a note
    row = Row(info, number, dict(zip(_COLUMNS, words, strict=False)))
    row.one_of("tissue", _TISSUE)
    normal = row.one_of("class", _CLASS) == "NORM"
    if normal and len(words) > 3:
        raise row.error("severity", "a NORM film has neither severity nor place")
    if not normal:
        row.one_of("severity", _SEVERITY)
    if len(words) not in ({3} if normal else {4, 7}):
        raise row.error(_COLUMNS[min(len(words), 6)], "a line has film, tissue, class, then severity and x, y, radius")
    for column in ("x", "y"):
        row.number_in(column, 0, SIDE_PX)
    row.number_in("radius", 1, SIDE_PX)
    return row


def _film(name: str, rows: list[Row], path: Path | None) -> Film:
    first = rows[0]
    if path is None:
        raise first.error("film", f"no file {name}.pgm beside or below Info.txt", "fetch it, or take the line out")
    tissue = tables.agreed(rows, "tissue", lambda r: r.one_of("tissue", _TISSUE))
    classes = [r.one_of("class", _CLASS) for r in rows]
    if "NORM" in classes and len(rows) > 1:
        raise rows[1].error("class", f"contradicts line {first.number}: a NORM film has one line")
    number = int(name[3:])
    size = tables.size_for(first, "film", path)
    if size != (SIDE_PX, SIDE_PX):
        raise first.error(
            "film", f"{path.name} has {size[1]} x {size[0]} pixels", "take the 1024 x 1024 films of mini-MIAS"
        )
    pair = f"mias{(number + 1) // 2:03d}"
    header = images.plain_header(
        path,
        name=f"mias/{name}",
        patient=pair,
        laterality=Laterality.RIGHT if number % 2 else Laterality.LEFT,
        view=View.MLO,
        rows=SIDE_PX,
        columns=SIDE_PX,
        mm=MM,
    )
    labels = [NORMAL if c == "NORM" else r.one_of("severity", _SEVERITY) for c, r in zip(classes, rows, strict=True)]
    return Film(
        source="mias",
        name=name,
        patient=f"mias/{pair}",
        path=path,
        header=header,
        label=worst(labels),
        density=tissue,
        table=first.table,
        row=first.number,
        rows=tuple(r.cells for r in rows),
        marked=tuple(_lesion(r) for r in rows if r.get("radius")),
        traits=TRAITS,
    )


def _lesion(row: Row) -> Lesion:
    x, bottom, radius = (float(row.get(c)) for c in ("x", "y", "radius"))
    y = SIDE_PX - bottom
    box = (x - radius, y - radius, x + radius, y + radius)
    kind = KIND[row.one_of("class", _CLASS)]
    return Lesion(row.one_of("severity", _SEVERITY), kind, box, size_mm=2 * radius * MM)
