"""Where a breast density comes from: the user's table, a report in the study, vendor blocks, the pixels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan import codes
from mammoscan.domain import Density, DensityReading, DensitySource, Laterality
from mammoscan.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from mammoscan.domain import Header

_TERMS = {
    **{letter: d for d in Density if d is not Density.UNKNOWN for letter in (d.value, d.value.upper())},
    **dict(zip("1234", (Density.A, Density.B, Density.C, Density.D), strict=True)),
}
_KEYS = ("sop_instance_uid", "study_instance_uid", "patient_id")
VOLPARA_CREATOR = "MATAKINA_10"


@dataclass(frozen=True, slots=True)
class DensityTable:
    """A user's densities: (column, identifier, side) to density; side BOTH where the row names none."""

    rows: Mapping[tuple[str, str, Laterality], Density]

    def find(self, header: Header) -> Density | None:
        """The density of an image, by the most exact identifier first."""
        identifiers = (header.sop_instance_uid, header.study.study_instance_uid, header.patient.patient_id)
        for column, identifier in zip(_KEYS, identifiers, strict=True):
            if identifier:
                for side in (header.laterality, Laterality.BOTH):
                    found = self.rows.get((column, identifier, side))
                    if found is not None:
                        return found
        return None


def read_density_table(path: Path) -> DensityTable:
    """Read a CSV with a column ``density`` (a to d, A to D or 1 to 4), at least one of
    ``sop_instance_uid``, ``study_instance_uid``, ``patient_id``, and optionally ``laterality``.

    Raises
    ------
    LabelError
        Naming the row, for a missing column, an unknown term, or two densities for one thing.
    """
    rows: dict[tuple[str, str, Laterality], Density] = {}
    try:
        stream = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise LabelError(f"cannot be read: {error.strerror}", path=path) from error
    with stream:
        try:
            reader = csv.DictReader(stream)
            columns = set(reader.fieldnames or ())
            if "density" not in columns or not columns & set(_KEYS):
                raise LabelError("columns missing", path=path, remedy=f"give `density` and one of {', '.join(_KEYS)}")
            for number, row in enumerate(reader, 2):
                density = _TERMS.get((row["density"] or "").strip())
                if density is None:
                    raise LabelError(
                        f"row {number}: unknown density {row['density']!r}", path=path, remedy="use a to d or 1 to 4"
                    )
                side = _side(row.get("laterality"), number, path)
                column = next((c for c in _KEYS if (row.get(c) or "").strip()), None)
                if column is None:
                    raise LabelError(f"row {number}: no identifier", path=path)
                key = (column, row[column].strip(), side)
                if rows.setdefault(key, density) is not density:
                    raise LabelError(f"row {number}: a second, different density for {column}", path=path)
        except UnicodeDecodeError as error:
            raise LabelError("not UTF-8", path=path, remedy="save the table as UTF-8") from error
    return DensityTable(rows)


def _side(text: str | None, number: int, path: Path) -> Laterality:
    cleaned = (text or "").strip().upper()
    if not cleaned:
        return Laterality.BOTH
    if cleaned in {"L", "R", "B"}:
        return Laterality(cleaned)
    raise LabelError(f"row {number}: unknown laterality {text!r}", path=path, remedy="use L, R, B or nothing")


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
    """Density from known vendor blocks: Volpara Density Grade (private creator MATAKINA_10)."""
    for element in ds:
        if element.tag.is_private and not element.tag.is_private_creator:
            creator = str(element.private_creator or "")
            if creator.strip().upper() == VOLPARA_CREATOR and "density grade" in str(element.name).lower():
                found = _TERMS.get(str(element.value).strip())
                if found is not None:
                    return DensityReading(found, DensitySource.PRIVATE, side)
    return None


def reported_densities(ds: Dataset) -> tuple[DensityReading, ...]:
    """Breast compositions stated in a structured report: 129715009 as a finding or a question, with a
    CID 6000 value; the side from a sibling or child coded with CID 6022, else both.

    Reports written by mammoscan state estimates and are no readings: none is returned for them.
    """
    if str(ds.get("Manufacturer", "")).strip().lower() == "mammoscan":
        return ()
    found = []
    for item, parents in _walk(ds, ()):
        density = _composition(item)
        if density is not None:
            found.append(DensityReading(density, DensitySource.REPORT, _side_of(item, parents)))
    return tuple(dict.fromkeys(found))


def _composition(item: Dataset) -> Density | None:
    concept = codes.value(item.ConceptCodeSequence[0]) if item.get("ConceptCodeSequence") else ""
    name = codes.value(item.ConceptNameCodeSequence[0]) if item.get("ConceptNameCodeSequence") else ""
    if name in codes.BREAST_COMPOSITION and concept in codes.DENSITIES:
        return codes.DENSITIES[concept]
    if concept in codes.BREAST_COMPOSITION:
        for child in item.get("ContentSequence") or ():
            value = codes.value(child.ConceptCodeSequence[0]) if child.get("ConceptCodeSequence") else ""
            if value in codes.DENSITIES:
                return codes.DENSITIES[value]
    return None


def _side_of(item: Dataset, parents: tuple[Dataset, ...]) -> Laterality:
    for place in (item, *reversed(parents)):
        for child in place.get("ContentSequence") or ():
            if child.get("ConceptCodeSequence"):
                side = codes.SIDES.get(codes.value(child.ConceptCodeSequence[0]))
                if side is not None:
                    return side
        modifier = place.get("FindingSiteSequence")
        if modifier:
            side = codes.SIDES.get(codes.value(modifier[0]))
            if side is not None:
                return side
    return Laterality.BOTH


def _walk(ds: Dataset, parents: tuple[Dataset, ...]) -> Iterator[tuple[Dataset, tuple[Dataset, ...]]]:
    for child in ds.get("ContentSequence") or ():
        yield child, parents
        yield from _walk(child, (*parents, child))
