"""Identifiers that went through a spreadsheet: what is lost for good, and what can still be matched."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_EXPONENT = re.compile(r"[+-]?\d([.,]\d+)?E\+\d{2,}", re.IGNORECASE)  # as programs show what they can't hold
_ERRORS = {"#N/A", "#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!"}
_NUMBER = re.compile(r"(\d+)(?:[.,]0+)?")  # also as a column of numbers is written: 123.0
_ZERO = re.compile(r"0\d+")


def lost(written: str) -> str:
    """Why a cell cannot name anything any more, '' where it can."""
    if _EXPONENT.fullmatch(written):
        return (
            f"{written!r} is what a spreadsheet left of a longer number; format the column as text and enter it again"
        )
    if written.upper() in _ERRORS:
        return f"{written!r} is a spreadsheet's error and no identifier"
    return ""


def bare(written: str) -> str:
    """A number without leading zeros and empty decimals; anything else as it is."""
    found = _NUMBER.fullmatch(written)
    return (found[1].lstrip("0") or "0") if found else written


def keeps_zeros(values: Iterable[str]) -> bool:
    """Whether a column shows leading zeros anywhere, so that those of its numbers are as they were."""
    return any(_ZERO.fullmatch(value) for value in values)


@dataclass(frozen=True, slots=True)
class Found:
    """What a written identifier can mean. known: all that it can. near: those that are another number's spelling."""

    known: tuple[str, ...]
    near: tuple[str, ...]


class Spellings:
    """Finds known identifiers by what a spreadsheet may have left of them.

    Programs that take 00123 for a number write 123. So a number without zeros means every identifier that is the
    same number, unless its column shows leading zeros elsewhere: then none were lost, and it means itself alone. The
    same holds for the known ones, which may come from a spreadsheet too. Who asks must not choose among several.
    """

    def __init__(self, known: Iterable[str], written: Iterable[str]) -> None:
        self._known: defaultdict[str, list[str]] = defaultdict(list)
        for value in dict.fromkeys(known):
            self._known[bare(value)].append(value)
        self._known_keeps = keeps_zeros(v for values in self._known.values() for v in values)
        self._written_keeps = keeps_zeros(written)

    def find(self, written: str) -> Found:
        """The known identifiers that a written one can mean."""
        number = bare(written)
        same = self._known.get(number, [])
        if written in same and self._written_keeps:
            return Found((written,), ())
        short = not _ZERO.match(written)

        def possible(value: str) -> bool:
            return (
                value == written or (short and not self._written_keeps) or (value == number and not self._known_keeps)
            )

        means = tuple(value for value in same if possible(value))
        return Found(means, tuple(value for value in same if value not in means))
