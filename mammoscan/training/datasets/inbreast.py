"""INbreast (Moreira et al. 2012, Academic Radiology 19(2), 236-248): table, DICOM, XML contours.

``INbreast.csv`` (semicolons) or ``INbreast.xls``; ``AllDICOMs/<File Name>_<patient>_MG_<side>_<view>_
ANON.dcm``; ``AllXML/<File Name>.xml``, an Apple property list. Patient ID and age are removed from the
table: the 16 hexadecimal digits in the DICOM's name tell patients apart.

Labels are the usual ones of the literature on this set, by the image's BI-RADS category: 1 normal, 2 and
3 benign, 4, 5 and 6 malignant. They are readings, not pathology. Outlines of masses, clusters,
distortions and asymmetries take the image's label. Single calcifications, which mostly aren't what the
category is about, and the spicules around an outlined mass are places of uncertain class.
"""

from __future__ import annotations

import plistlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError

from mammoscan.core.domain import Age, AgeSource
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
    Box,
    Film,
    Lesion,
    Points,
    box_of,
    longest_mm,
)
from mammoscan.training.datasets.traits import Traits

if TYPE_CHECKING:
    from mammoscan.core.domain import Header
    from mammoscan.training.datasets.tables import Row

TRAITS = Traits(cite="INbreast, Moreira et al., Acad Radiol 19 (2012) 236", terms="research only")
NEEDED = ("laterality", "view", "file_name", "acr", "bi_rads")
TABLES = ("inbreast.csv", "inbreast.xls", "inbreast.xlsx")
LABEL = {"1": NORMAL, "2": BENIGN, "3": BENIGN} | dict.fromkeys(("4", "4a", "4b", "4c", "5", "6"), MALIGNANT)
# Names of outlines as they are spelled in the set, with whether the image's label is theirs.
OUTLINES = {
    "mass": (MASS, True),
    "spiculated region": (MASS, True),
    "espiculated region": (MASS, True),
    "cluster": (CALCIFICATION, True),
    "distortion": (DISTORTION, True),
    "asymmetry": (ASYMMETRY, True),
    "assymetry": (ASYMMETRY, True),
    "calcification": (CALCIFICATION, False),
    "calcifications": (CALCIFICATION, False),
    "unnamed": ("", False),
    "": ("", False),
}
_POINT_NAME = re.compile(r"point \d+")  # what the drawing program calls a point without a name
_DICOM = re.compile(r"(\d+)_([0-9a-f]+)_MG_", re.IGNORECASE)
_REMOVED = {"removed", ""}


def table_in(folder: Path) -> Path | None:
    """The table of the release, CSV before workbook; None where a folder has none."""
    names = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_file()}
    return next((names[name] for name in TABLES if name in names), None)


def read(table: Path) -> list[Film]:
    """The films of the release.

    Raises
    ------
    LabelError
        With row and column, or the XML file, for anything missing, unknown, contradictory or unreadable.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted((table.parent / "AllDICOMs").rglob("*.dcm")):
        if found := _DICOM.match(path.name):
            files.setdefault(found[1], []).append(path)
    if not (table.parent / "AllXML").is_dir():
        raise LabelError("no folder AllXML beside it", path=table, remedy="fetch the outlines of the release too")
    films: dict[str, Film] = {}
    for row in tables.read_table(table, NEEDED):
        if not (row.get("file_name") or row.get("laterality") or row.get("view")):
            continue  # the workbook ends with notes
        film = _film(row, files)
        if other := films.get(film.name):
            raise row.error("file_name", f"{film.name} is already in row {other.row}")
        films[film.name] = film
    return [films[name] for name in sorted(films)]


def _film(row: Row, files: dict[str, list[Path]]) -> Film:
    name = row.text("file_name").removesuffix(".0")
    found = files.get(name, [])
    if len(found) != 1:
        raise row.error("file_name", f"{len(found)} files AllDICOMs/{name}_<patient>_MG_*.dcm, expected one")
    path = found[0]
    matched = _DICOM.match(path.name)
    assert matched is not None
    side, view = row.one_of("laterality", tables.SIDES), row.one_of("view", tables.VIEWS)
    density = row.one_of("acr", tables.DENSITIES, empty="")
    label = row.one_of("bi_rads", LABEL)
    header = tables.with_row(row, "file_name", path, images.dicom_header)
    age = None if row.get("patient_age").lower() in _REMOVED else tables.checked_age(row, "patient_age")
    header = replace(
        header,
        laterality=side,
        view=view,
        density=images.reading(density, side),
        age=header.age if age is None else Age(age, AgeSource.TABLE),
    )
    xml = row.table.parent / "AllXML" / f"{name}.xml"
    return Film(
        source="inbreast",
        name=name,
        patient=f"inbreast/{matched[2].lower()}",
        path=path,
        header=header,
        label=label,
        density=density,
        table=row.table,
        row=row.number,
        rows=(row.cells,),
        marked=_lesions(xml, row, header, label) if xml.is_file() else (),
        traits=TRAITS,
    )


def _lesions(xml: Path, row: Row, header: Header, label: str) -> tuple[Lesion, ...]:
    """The outlines of a film. A normal film's have no class: its category says that there is nothing."""
    found = [_outline(xml, row, header, roi) for roi in _rois(xml, row)]
    masses = [box for name, box, _ in found if name == "mass"]
    out = []
    for name, box, points in found:
        kind, certain = OUTLINES.get(name, ("", False))
        # The spicules of an outlined mass are no second lesion.
        if "spiculated" in name and any(_centre_within(mass, box) for mass in masses):
            certain = False
        out.append(
            Lesion(
                label if certain and label != NORMAL else "",
                kind,
                box,
                points if len(points) > 2 else (),
                row.get("bi_rads"),
                size_mm=longest_mm(box, header.spacing),
            )
        )
    return tuple(out)


def _rois(xml: Path, row: Row) -> list[dict[str, object]]:
    try:
        with xml.open("rb") as stream:
            document = plistlib.load(stream, fmt=plistlib.FMT_XML)
        return [roi for image in document["Images"] for roi in image["ROIs"]]
    except (OSError, ExpatError, plistlib.InvalidFileException, ValueError, KeyError, TypeError) as error:
        raise _problem(xml, row, f"no property list with Images and ROIs: {error}") from error


def _outline(xml: Path, row: Row, header: Header, roi: dict[str, object]) -> tuple[str, Box, Points]:
    name = str(roi.get("Name") or "").strip().lower()
    if name not in OUTLINES and not _POINT_NAME.fullmatch(name):
        raise _problem(xml, row, f"unknown name of an outline {roi.get('Name')!r}")
    written = roi.get("Point_px")
    if not isinstance(written, list) or not written:
        raise _problem(xml, row, f"an outline {name!r} without Point_px")
    if roi.get("NumberOfPoints", len(written)) != len(written):
        raise _problem(xml, row, f"an outline {name!r} has {len(written)} points, not {roi['NumberOfPoints']}")
    points = tuple(_point(xml, row, text) for text in written)
    x0, y0, x1, y1 = box_of(points)
    # Drawn by hand: an outline may reach over the edge, but not lie outside.
    box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(header.columns)), min(y1, float(header.rows)))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise _problem(xml, row, f"an outline {name!r} at {points[0]} lies outside the image")
    return name, box, points


def _point(xml: Path, row: Row, text: object) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in str(text).strip(" ()").split(",")[:2])
    except ValueError:
        raise _problem(xml, row, f"{text!r} is not a point (x, y)") from None
    return x, y


def _problem(xml: Path, row: Row, cause: str) -> LabelError:
    return LabelError(
        f"{cause}; row {row.number} of {row.table.name} names this film",
        path=xml,
        remedy="fetch the file again, correct it, or take the row out",
    )


def _centre_within(inner: Box, outer: Box) -> bool:
    x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
    return outer[0] <= x <= outer[2] and outer[1] <= y <= outer[3]
