"""Clinical data of a user's own: columns that a model takes, what a table says in them, how a score reads that. Pure.

A column is of numbers or of categories, and missing is a state of either. A score has one input for a number
(``clinical_bmi``), one for each state (``clinical_bmi: missing``, ``clinical_hormones: never``), so that what is fitted to
patients of whom something is not known serves those of whom it is not known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.core.tablefile import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

PREFIX = "clinical_"  # of the headings of such columns
MISSING = "missing"
NOTHING = frozenset({"", MISSING, "unknown", "na", "n/a"})  # cells that say nothing, in lower case
_STATE = ": "  # between a column and its state; no heading holds a blank as it is compared

Value = float | str | None  # a number, a category, or missing
Values = tuple[tuple[str, Value], ...]  # by column


@dataclass(frozen=True, slots=True)
class Column:
    """name: its heading as it is compared, with the prefix. categories: in lower case, sorted; () for numbers."""

    name: str
    categories: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of a score's inputs that follow from it."""
        states = (*self.categories, MISSING)
        return (*(() if self.categories else (self.name,)), *(f"{self.name}{_STATE}{state}" for state in states))

    def value(self, cell: str, mark: str = ".") -> Value:
        """What a cell means. mark: the decimal mark.

        Raises
        ------
        ValueError
            Where it is no number, or a category that the model does not know. The message does not quote the cell,
            which says something of a patient.
        """
        text = cell.strip().lower()
        if text in NOTHING:
            return None
        if self.categories:
            if text not in self.categories:
                raise ValueError("a category that the model does not know")
            return text
        try:
            return number(text, self.name, mark)
        except ValueError:
            raise ValueError("not a number") from None

    def facts(self) -> dict[str, Any]:
        """For ``model.json``."""
        return {"name": self.name, "categories": list(self.categories)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Column:
        """Read back. Raises KeyError, TypeError or ValueError for a wrong description."""
        name, categories = facts["name"], tuple(facts["categories"])
        if not isinstance(name, str) or not name.startswith(PREFIX) or not all(isinstance(c, str) for c in categories):
            raise ValueError("no clinical column")
        return cls(name, categories)


def column_of(name: str) -> str:
    """The column that an input of a score follows from."""
    return name.partition(_STATE)[0]


def inputs(names: Sequence[str], values: Values) -> NDArray[np.float64]:
    """The inputs (len(names),) of a score from what is known of a patient; nan for a number that is missing.

    names: of ``Column.inputs``, in any order.

    Raises
    ------
    KeyError
        For a name whose column has no value.
    """
    known = dict(values)
    out = []
    for name in names:
        column, stated, state = name.partition(_STATE)
        value = known[column]
        if stated:
            out.append(float((MISSING if value is None else value) == state))
        else:
            out.append(value if isinstance(value, float) else math.nan)
    return np.array(out, np.float64)


def shown(values: Values) -> tuple[tuple[str, str], ...]:
    """Names and values as reports show them."""
    return tuple((name, MISSING if v is None else f"{v:.6g}" if isinstance(v, float) else v) for name, v in values)


def hidden(values: Values) -> tuple[tuple[str, str], ...]:
    """Names, and whether there was a value: what results without identities may tell."""
    return tuple((name, MISSING if value is None else "given, not shown") for name, value in values)
