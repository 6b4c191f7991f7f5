"""What a user's table tells of patients, matched to the patients of an archive. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mammoscan.core.domain import Laterality
from mammoscan.core.identifiers import Spellings

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    V = TypeVar("V", bound=Hashable)

Key = tuple[str, str, Laterality]  # column of the identifier, identifier, side


def met(rows: Mapping[Key, V], numbers: Mapping[Key, int], patients: Iterable[str]) -> tuple[dict[Key, V], list[str]]:
    """The rows with the patients as an archive spells them: spreadsheets drop leading zeros.

    A row that could mean two of them means none; those of patients whom the archive does not know are left out. The
    notes say which rows were matched or left out by number only: they go where no patient may be named. numbers: row of
    each of ``rows``.
    """
    by_patient = [key for key in rows if key[0] == "patient_id"]
    spellings = Spellings(patients, [identifier for _, identifier, _ in by_patient])
    said: dict[Key, list[Key]] = {}
    refused: set[int] = set()
    for key in by_patient:
        column, written, side = key
        means = spellings.find(written).known
        if len(means) > 1:
            refused.add(numbers.get(key, 0))
        elif means:
            said.setdefault((column, means[0], side), []).append(key)
    found = {key: value for key, value in rows.items() if key[0] != "patient_id"}
    restored: set[int] = set()
    for own, keys in said.items():
        if len({rows[key] for key in keys}) > 1:  # 123 and 123.0
            refused.update(numbers.get(key, 0) for key in keys)
            continue
        found[own] = rows[keys[0]]
        restored.update(numbers.get(key, 0) for key in keys if key != own)
    notes = []
    if restored:
        notes.append(f"{_rows(restored)}: matched to a patient_id that has leading zeros, as spreadsheets drop them")
    if refused:
        notes.append(
            f"{_rows(refused)}: not used, since it is not certain which patient is meant: identifiers differ in leading "
            "zeros only; write them as text, with their zeros, or give study_instance_uid"
        )
    return found, notes


def _rows(numbers: set[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:10]))
    return f"row{'s' * (len(numbers) > 1)} {shown}" + f" and {len(numbers) - 10} more" * (len(numbers) > 10)
