"""A user's table of clinical data, as a model takes them: read before anything is made, found by study or patient."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mammoscan.archive.told import met
from mammoscan.core.clinical import PREFIX
from mammoscan.core.domain import Laterality
from mammoscan.core.errors import LabelError
from mammoscan.core.identifiers import lost
from mammoscan.core.tablefile import IDENTIFIERS, Table, decimal_mark, find_columns, read_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from mammoscan.archive.told import Key
    from mammoscan.core.clinical import Column, Values
    from mammoscan.core.domain import Header

OPTION = "--clinical-csv"
_KEYS = ("study_instance_uid", "patient_id")  # the more exact first
_WHOLE = Laterality.BOTH  # such data are of a person, not of a side


@dataclass(frozen=True, slots=True)
class ClinicalTable:
    """What a model's columns say of studies and patients. columns: all that the model takes.

    rows: by the identifier that a row names. numbers: row of each. notes: what should be said of how it was read.
    """

    columns: tuple[Column, ...]
    rows: Mapping[Key, Values] = field(default_factory=dict)
    numbers: Mapping[Key, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def find(self, header: Header) -> Values:
        """The value of every column for the study of an image; all missing where the table does not name it."""
        for column, identifier in zip(_KEYS, (header.study.study_instance_uid, header.patient.patient_id), strict=True):
            found = self.rows.get((column, identifier, _WHOLE)) if identifier else None
            if found is not None:
                return found
        return tuple((column.name, None) for column in self.columns)

    def meeting(self, patients: Iterable[str]) -> ClinicalTable:
        """The table with the patients as an archive spells them. A note counts those of whom it says nothing."""
        there = {patient for patient in patients if patient}
        rows, notes = met(self.rows, self.numbers, there)
        by_patient = {identifier for column, identifier, _ in rows if column == "patient_id"}
        if self.rows and len(by_patient) == len(rows) and (without := len(there - by_patient)):
            notes.append(
                f"{without} of {len(there)} patients of the archive have no row: all of theirs counts as missing"
            )
        return replace(self, rows=rows, notes=(*self.notes, *notes))


def read_clinical_table(path: Path | None, columns: Sequence[Column]) -> ClinicalTable:
    """Read a table with at least one of ``study_instance_uid`` and ``patient_id`` and columns named as in training.

    A row with both is of that study. path: None for no table: everything is missing, which a note says.
    No error and no note quotes a value: they are of patients, and go into logs.

    Raises
    ------
    LabelError
        Naming the row, for a value that is no number or no category of the model, an identifier that a spreadsheet
        destroyed, or two different rows for one thing; or where the table has no column that the model takes, or the
        model takes none.
    """
    taken = ", ".join(column.name for column in columns)
    if path is None:
        said = f"{OPTION} is not given: the model takes {taken}, and all of it counts as missing"
        return ClinicalTable(tuple(columns), notes=(said,) if columns else ())
    if not columns:
        raise LabelError(
            "the model takes no clinical data, so nothing of this table could be used",
            path=path,
            remedy=f"leave {OPTION} out, or give --model with one that was trained on such columns (manual: training)",
        )

    def fits(names: Collection[str]) -> bool:
        return not {column.name for column in columns}.isdisjoint(names)

    table = read_table(path, fits)
    keys = find_columns(table, {key: IDENTIFIERS[key] for key in _KEYS})
    own = {column: table.names.index(column.name) for column in columns if column.name in table.names}
    if not keys or not own:
        raise LabelError(
            "columns missing", path=path, remedy=f"give one of {', '.join(_KEYS)}, and the model's: {taken}"
        )
    rows, numbers = _rows(table, keys, own, columns)
    return ClinicalTable(tuple(columns), rows, numbers, (*table.notes, *_unmatched(table, columns, taken)))


def _rows(
    table: Table, keys: Mapping[str, int], own: Mapping[Column, int], columns: Sequence[Column]
) -> tuple[dict[Key, Values], dict[Key, int]]:
    mark = _mark(table, own)
    rows: dict[Key, Values] = {}
    numbers: dict[Key, int] = {}
    for number, cells in table.rows({**keys, **{column.name: place for column, place in own.items()}}):
        key = next((name for name in _KEYS if cells.get(name)), None)
        if key is None:
            raise LabelError(
                f"row {number}: no identifier",
                path=table.path,
                remedy=f"fill in one of {', '.join(_KEYS)}, or take the row out",
            )
        if why := lost(cells[key]):
            raise LabelError(f"row {number}: {key} {why}", path=table.path)
        values: list[tuple[str, str | float | None]] = []
        for column in columns:
            try:
                values.append((column.name, column.value(cells.get(column.name, ""), mark)))
            except ValueError as error:
                known = f"one of {', '.join(column.categories)}" if column.categories else "a number"
                raise LabelError(
                    f"row {number}, column {column.name!r}: {error}",
                    path=table.path,
                    remedy=f"write {known}, or leave the cell empty: missing is a state of its own",
                ) from None
        place = (key, cells[key], _WHOLE)
        if rows.setdefault(place, tuple(values)) != tuple(values):
            raise LabelError(
                f"row {number}: says something else of a {key} than row {numbers[place]}",
                path=table.path,
                remedy="keep the right one; of a patient with several studies give study_instance_uid",
            )
        numbers.setdefault(place, number)
    if not rows:
        raise LabelError("no clinical data", path=table.path, remedy="give at least one row below the headings")
    return rows, numbers


def _mark(table: Table, own: Mapping[Column, int]) -> str:
    """The decimal mark of the columns of numbers; as ``decimal_mark``, but an error does not quote the cells."""
    numeric = {column.name: place for column, place in own.items() if not column.categories}
    try:
        return decimal_mark(table, numeric, numeric)
    except LabelError as error:
        row = re.match(r"row \d+", error.message)
        where = f"{row[0]}: " if row else ""
        raise LabelError(
            f"{where}it is not clear what the decimal mark of the numbers is", path=table.path, remedy=error.remedy
        ) from None


def _unmatched(table: Table, columns: Sequence[Column], taken: str) -> list[str]:
    """What to say of columns that the model does not know, or that the table lacks."""
    known = {column.name for column in columns}
    notes = []
    if unknown := [name for name in table.names if name.startswith(PREFIX) and name not in known]:
        notes.append(f"not used, since the model was not trained on them: {', '.join(unknown)}; it takes {taken}")
    if lacking := [name for name in sorted(known) if name not in table.names]:
        notes.append(
            f"the table lacks {', '.join(lacking)}: that counts as missing for all patients; add what the model was trained on"
        )
    return notes
