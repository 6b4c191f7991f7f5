"""Clinical data of a manifest's own columns: what kind each is, and the inputs of a breast's score that follow.

They enter where whole breasts are scored: a logistic regression, standardised and regularised, fitted inside the folds
on breasts that heads and regions' scores have not seen. A set that does not ask for a column says nothing of it (its mean);
only in a set that asks is an empty cell the state "missing", else that state would name the set.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mammoscan.core import clinical
from mammoscan.core.clinical import NOTHING, Column
from mammoscan.core.errors import LabelError
from mammoscan.core.tablefile import number
from mammoscan.training.examples import Examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mammoscan.model.scores import Score
    from mammoscan.training.datasets.film import Film

log = logging.getLogger(__name__)

MOST = 12  # categories of a column; with more it is a text, and each would be held by few patients


@dataclass(frozen=True, slots=True)
class Asked:
    """columns: those that are used. values: float64 (films, inputs of all columns), nan where nothing is said."""

    columns: tuple[Column, ...]
    values: NDArray[np.float64]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(name for column in self.columns for name in column.inputs)


@dataclass(frozen=True, slots=True)
class AskedExamples(Examples):
    """Examples with what sets say of their patients in columns of their owners."""

    asked: Asked


def of(examples: Examples) -> Asked:
    """What is asked of the examples' patients; nothing, in most cases."""
    if isinstance(examples, AskedExamples):
        return examples.asked
    return Asked((), np.zeros((len(examples.source), 0)))


def with_columns(examples: Examples, films: Sequence[Film]) -> Examples:
    """The examples with their films' clinical data; the same where the films have none.

    Raises
    ------
    LabelError
        For a column that is neither of numbers nor of few categories.
    """
    columns = columns_of(films)
    if not columns:
        return examples
    said = {(film.source, film.name): film.clinical for film in films}
    rows = []
    for place in zip(examples.source.tolist(), examples.name.tolist(), strict=True):
        cells = said[place]
        parts = [
            clinical.inputs(column.inputs, ((column.name, column.value(cells[column.name])),))
            if column.name in cells
            else np.full(len(column.inputs), np.nan)
            for column in columns
        ]
        rows.append(np.concatenate(parts))
    asked = Asked(columns, np.array(rows))
    known = {field.name: getattr(examples, field.name) for field in dataclasses.fields(examples)}
    return AskedExamples(**known, asked=asked)


def columns_of(films: Sequence[Film]) -> tuple[Column, ...]:
    """The columns by name: of numbers where every cell that says anything is one, else of categories.

    One that says the same of all patients is left out, which the log tells.

    Raises
    ------
    LabelError
        For more than ``MOST`` categories.
    """
    cells: dict[str, set[str]] = {}
    where: dict[str, Film] = {}
    for film in films:
        for name, cell in film.clinical.items():
            cells.setdefault(name, set()).add(cell.strip().lower())
            where.setdefault(name, film)
    out = []
    for name, found in sorted(cells.items()):
        told = found - NOTHING
        if len({cell if cell in told else "" for cell in found}) < 2:
            log.warning("column %s says the same of all patients and is not used", name)
        elif all(_is_number(cell) for cell in told):
            out.append(Column(name))
        elif len(told) > MOST:
            raise LabelError(
                f"column {name!r} has {len(told)} different values that are not all numbers",
                path=where[name].table,
                remedy=f"write numbers alone, or at most {MOST} categories, or call the column otherwise",
            )
        else:
            out.append(Column(name, tuple(sorted(told))))
    return tuple(out)


def text(asked: Asked, score: Score | None) -> str:
    """The card's words on them: each column, its kind and its weights. score: of a breast."""
    if not asked.columns:
        return ""
    lines = ["| column | kind | weights of its standardised inputs in a breast's score |", "|---|---|---|"]
    weights = {} if score is None else dict(zip(score.inputs, score.weight.tolist(), strict=True))
    for column in asked.columns:
        kind = f"categories: {', '.join(column.categories)}" if column.categories else "number"
        parts = [f"{name.removeprefix(column.name).lstrip(': ') or 'value'} {weights.get(name, 0.0):+.3f}"
                 for name in column.inputs]  # fmt: skip
        lines.append(f"| `{column.name}` | {kind} | {', '.join(parts)} |")
    return (
        "\n\n## Clinical data\n\nColumns of the training's manifest that a breast's score takes beside its images and the age "
        "(`mammoscan run --clinical-csv`); missing is a state of its own. A weight near 0 says that the column brought "
        "nothing.\n\n" + "\n".join(lines)
    )


def _is_number(cell: str) -> bool:
    try:
        number(cell, "")
    except ValueError:
        return False
    return True
