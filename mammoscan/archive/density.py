"""Where a breast density comes from: the user's table, a report in the study, vendor blocks, the pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from mammoscan.archive.told import met
from mammoscan.core import codes
from mammoscan.core.domain import Density, DensityReading, DensitySource, Laterality
from mammoscan.core.errors import LabelError
from mammoscan.core.identifiers import lost
from mammoscan.core.implementation import MANUFACTURER
from mammoscan.core.tablefile import IDENTIFIERS, find_columns, read_table
from mammoscan.core.values import items, text, texts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from mammoscan.core.domain import Header

_TERMS = {
    **{letter: d for d in Density if d is not Density.UNKNOWN for letter in (d.value, d.value.upper())},
    **dict(zip("1234", (Density.A, Density.B, Density.C, Density.D), strict=True)),
}
_KEYS = ("sop_instance_uid", "study_instance_uid", "patient_id")
# Private blocks (group, element in the block, creators), as the dictionaries of dicom3tools and pydicom list them.
VOLPARA_GRADE = (0x0015, 0x28, frozenset({"MATAKINA_10"}))  # LO, Volpara Density Grade
HOLOGIC_ANALYSIS = (0x0021, 0x01, frozenset({"HOLOGIC", "HOLOGIC, INC."}))  # LT, Image Analysis Data in XML
_LONGEST_XML = 1_000_000  # characters


_COLUMNS = {
    **IDENTIFIERS,
    "density": ("density", "breast_density", "birads_density", "acr_density"),
    "laterality": ("laterality", "side", "breast", "image_laterality"),
}
_SIDES = {
    "": Laterality.BOTH,
    **{name: side for side in Laterality for name in (side.value, side.name) if side is not Laterality.UNKNOWN},
}


@dataclass(frozen=True, slots=True)
class DensityTable:
    """A user's densities: (column, identifier, side) to density; side BOTH where the row names none.

    numbers: row of each of ``rows``. notes: what should be said of how it was read.
    """

    rows: Mapping[tuple[str, str, Laterality], Density]
    numbers: Mapping[tuple[str, str, Laterality], int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def find(self, header: Header) -> Density | None:
        """The density of an image, by the most exact identifier first."""
        named = (header.sop_instance_uid, header.study.study_instance_uid, header.patient.patient_id)
        for column, identifier in zip(_KEYS, named, strict=True):
            if identifier:
                for side in (header.laterality, Laterality.BOTH):
                    found = self.rows.get((column, identifier, side))
                    if found is not None:
                        return found
        return None

    def meeting(self, patients: Iterable[str]) -> DensityTable:
        """The table with the patients as an archive spells them: spreadsheets drop leading zeros.

        A row that could mean two of them means none. ``notes`` say which rows were matched or left out by number
        only: they go where no patient may be named.
        """
        rows, notes = met(self.rows, self.numbers, patients)
        return replace(self, rows=rows, notes=(*self.notes, *notes))


def read_density_table(path: Path) -> DensityTable:
    """Read a table with a column ``density`` (a to d, A to D or 1 to 4), at least one of
    ``sop_instance_uid``, ``study_instance_uid``, ``patient_id``, and optionally ``laterality``.

    Raises
    ------
    LabelError
        Naming the row, for a missing column, an unknown term, an identifier that a spreadsheet destroyed, or two
        densities for one thing.
    """

    def fits(names: Collection[str]) -> bool:
        return not set(_COLUMNS["density"]).isdisjoint(names)

    table = read_table(path, fits)
    columns = find_columns(table, _COLUMNS)
    if "density" not in columns or not set(columns) & set(_KEYS):
        raise LabelError("columns missing", path=path, remedy=f"give `density` and one of {', '.join(_KEYS)}")
    rows: dict[tuple[str, str, Laterality], Density] = {}
    numbers: dict[tuple[str, str, Laterality], int] = {}
    for number, row in table.rows(columns):
        density = _TERMS.get(row["density"])
        if density is None:
            raise LabelError(
                f"row {number}: unknown density {row['density']!r}", path=path, remedy="use a to d or 1 to 4"
            )
        column = next((c for c in _KEYS if row.get(c)), None)
        if column is None:
            raise LabelError(
                f"row {number}: no identifier",
                path=path,
                remedy=f"fill in one of {', '.join(_KEYS)}, or take the row out",
            )
        if why := lost(row[column]):
            raise LabelError(f"row {number}: {column} {why}", path=path)
        side = _SIDES.get(row.get("laterality", "").upper())
        if side is None:
            raise LabelError(
                f"row {number}: unknown laterality {row['laterality']!r}", path=path, remedy="use L, R, B or nothing"
            )
        key = (column, row[column], side)
        if rows.setdefault(key, density) is not density:
            raise LabelError(
                f"row {number}: a second, different density for {column}, after that of row {numbers[key]}",
                path=path,
                remedy="keep the right one",
            )
        numbers.setdefault(key, number)
    if not rows:
        raise LabelError("no densities", path=path, remedy="give at least one row below the headings")
    return DensityTable(rows, numbers, table.notes)


def best_density(
    header: Header,
    reported: Sequence[DensityReading],
    table: DensityTable | None,
    estimate: Density | None,
) -> DensityReading:
    """The strongest density known of an image, in the order of ``DensitySource``.

    Reports that contradict each other about a side say nothing: the next source is asked.
    """
    side = header.laterality
    if table is not None and (found := table.find(header)) is not None:
        return DensityReading(found, DensitySource.TABLE, side)
    for wanted in (side, Laterality.BOTH):
        said = {r.density for r in reported if r.laterality is wanted}
        if len(said) == 1:
            return DensityReading(said.pop(), DensitySource.REPORT, side)
    if header.density is not None:
        return header.density
    if estimate is not None and estimate is not Density.UNKNOWN:
        return DensityReading(estimate, DensitySource.ESTIMATE, side)
    return DensityReading(Density.UNKNOWN, DensitySource.NONE, side)


def private_density(ds: Dataset, side: Laterality) -> DensityReading | None:
    """Density from known vendor blocks: Volpara's grade, else what Hologic's analysis names a BI-RADS density.

    Two different statements in one block say nothing.
    """
    found: set[Density] = set()
    for value in _private_values(ds, *VOLPARA_GRADE):
        found |= {_TERMS[value]} if value in _TERMS else set()
    if not found:
        for value in _private_values(ds, *HOLOGIC_ANALYSIS):
            found |= _densities_in_xml(value)
    return DensityReading(found.pop(), DensitySource.PRIVATE, side) if len(found) == 1 else None


def _private_values(ds: Dataset, group: int, offset: int, creators: frozenset[str]) -> list[str]:
    """The values at one place of a vendor's blocks, wherever they were put in the group (PS3.5 7.8.1)."""
    out = []
    for tag in [int(t) for t in ds.keys() if int(t) >> 16 == group]:  # noqa: SIM118 - iterating itself converts every element
        if 0x10 <= tag & 0xFFFF <= 0xFF and _private_text(ds, tag).upper() in creators:
            place = (group << 16) | ((tag & 0xFF) << 8) | offset
            if place in ds:
                out.append(_private_text(ds, place))
    return out


def _private_text(ds: Dataset, tag: int) -> str:
    value: Any = ds[tag].value
    written = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    return written.replace("\x00", "").strip()


def _densities_in_xml(written: str) -> set[Density]:
    """Values of elements and attributes that are named as a BI-RADS density or composition.

    The vendor publishes no schema, so only a name that says both counts; anything else stays unknown.
    """
    if len(written) > _LONGEST_XML:
        return set()
    try:
        root = fromstring(written)
    except (ParseError, DefusedXmlException, ValueError):
        return set()  # no XML that can be trusted states no density
    named = [(name, value) for e in root.iter() for name, value in ((e.tag, e.text), *e.attrib.items())]
    return {
        _TERMS[value.strip()]
        for name, value in named
        if value and value.strip() in _TERMS and re.search(r"birads(density|composition)", _letters(str(name)))
    }


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.rpartition("}")[2].lower())


# --------------------------------------------------------------------------- structured reports


def reported_densities(ds: Dataset) -> tuple[DensityReading, ...]:
    """Breast compositions stated in a structured report: 129715009 as a finding (TID 4006, 4007) or as a
    question (TID 1500 qualitative evaluations), with a CID 6000 value.

    The side is the one coded below the statement, else that of the images it refers to, else the one
    beside it, else both. A statement beside which both sides are named could be about either: it is
    left out. Reports written by mammoscan state estimates and are no readings: none is returned for them.
    """
    if text(ds, "Manufacturer").lower() == MANUFACTURER:
        return ()
    found = []
    for item, density, parents in _compositions(ds, ()):
        side = _side_of(ds, item, parents)
        if side is not None:
            found.append(DensityReading(density, DensitySource.REPORT, side))
    return tuple(dict.fromkeys(found))


def _compositions(ds: Dataset, parents: tuple[Dataset, ...]) -> Iterator[tuple[Dataset, Density, tuple[Dataset, ...]]]:
    for item in _children(ds):
        density = _composition(item)
        if density is not None:
            yield item, density, parents
        else:
            yield from _compositions(item, (*parents, item))


def _composition(item: Dataset) -> Density | None:
    concept, name = _code(item, "ConceptCodeSequence"), _code(item, "ConceptNameCodeSequence")
    if name in codes.BREAST_COMPOSITION and concept in codes.DENSITIES:
        return codes.DENSITIES[concept]
    if concept in codes.BREAST_COMPOSITION:
        said = {codes.DENSITIES.get(_code(child, "ConceptCodeSequence")) for child in _children(item)} - {None}
        return said.pop() if len(said) == 1 else None
    return None


def _side_of(root: Dataset, item: Dataset, parents: tuple[Dataset, ...]) -> Laterality | None:
    below = _sides_below(item) or _sides_of_images(root, item)
    if below:
        return below.pop() if len(below) == 1 else Laterality.BOTH
    for parent in reversed(parents):
        beside: set[Laterality] = set()
        for child in _children(parent):
            if text(child, "ValueType") == "CODE" and _composition(child) is None:
                beside |= _sides_below(child)
        if beside:
            return beside.pop() if len(beside) == 1 else None
    return Laterality.BOTH


def _sides_below(item: Dataset) -> set[Laterality]:
    side = codes.SIDES.get(_code(item, "ConceptCodeSequence"))
    found = {side} if side is not None else set()
    for child in _children(item):
        found |= _sides_below(child)
    return found


def _sides_of_images(root: Dataset, item: Dataset) -> set[Laterality]:
    """Sides of the image library's entries that an item refers to (PS3.3 C.17.3.2.5)."""
    found: set[Laterality] = set()
    for child in _children(item):
        path = texts(child, "ReferencedContentItemIdentifier")
        target: Dataset | None = root if path else None
        for number in path[1:]:
            inside = _children(target) if target is not None else []
            target = inside[int(number) - 1] if 0 < int(number) <= len(inside) else None
        if target is not None and target is not root:
            found |= _sides_below(target)
        found |= _sides_of_images(root, child)
    return found


def _children(item: Dataset) -> list[Dataset]:
    return items(item, "ContentSequence")


def _code(item: Dataset, keyword: str) -> str:
    sequence = items(item, keyword)
    return codes.value(sequence[0]) if sequence else ""
