"""Tables by column: a million rows as a few arrays, not as a million objects. A row is made when it is asked for."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

T = TypeVar("T")


class Made(Sequence[T], Generic[T]):
    """A sequence whose items are made when they are asked for, and not kept."""

    __slots__ = ()

    @abstractmethod
    def made(self, index: int) -> T:
        """The item at a place from 0 to below the length."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(self.made(i) for i in range(*index.indices(len(self))))
        place = int(index)
        if place < 0:
            place += len(self)
        if not 0 <= place < len(self):
            raise IndexError(index)
        return self.made(place)

    def __iter__(self) -> Iterator[T]:
        return map(self.made, range(len(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Lazy(Made[T]):
    """Items by a function of their place."""

    length: int
    make: Callable[[int], T]

    def __len__(self) -> int:
        return self.length

    def made(self, index: int) -> T:
        return self.make(index)


@dataclass(frozen=True, slots=True, eq=False)
class TextColumn(Made[str]):
    """Text of every row. values: each distinct one, once. codes: int32 (rows,), which of them a row has."""

    codes: NDArray[np.int32]
    values: Sequence[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> TextColumn:
        """A column of given cells."""
        coder = Coder()
        coder.add(texts)
        return coder.column()

    @classmethod
    def same(cls, text: str, rows: int) -> TextColumn:
        """A column with one text in all rows."""
        return cls(np.zeros(rows, dtype=np.int32), [text])

    def __len__(self) -> int:
        return len(self.codes)

    def made(self, index: int) -> str:
        return self.values[int(self.codes[index])]

    def __iter__(self) -> Iterator[str]:
        return map(self.values.__getitem__, self.codes.tolist())

    def mapped(self, change: Callable[[str], str]) -> TextColumn:
        """The column with every text changed; each distinct one is changed once, and those that become equal are one."""
        changed = TextColumn.of(map(change, self.values))
        if len(changed.values) == len(self.values):
            return TextColumn(self.codes, changed.values)
        return TextColumn(changed.codes[self.codes], changed.values)

    def taken(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> TextColumn:
        """The column at some rows, by places or by a mask."""
        return TextColumn(self.codes[rows], self.values)

    def over(self, other: TextColumn) -> TextColumn:
        """The text of each row, that of ``other`` (of as many rows) where it has none."""
        known = {text: code for code, text in enumerate(self.values)}
        places = [known.setdefault(text, len(known)) for text in other.values]
        codes = np.where(self.filled, self.codes, np.array([*places, 0], dtype=np.int32)[other.codes])
        return TextColumn(codes.astype(np.int32), list(known))

    def where(self, holds: Callable[[str], bool]) -> NDArray[np.bool_]:
        """The rows, bool (rows,), whose text has a property; each distinct text is asked once."""
        return np.fromiter(map(holds, self.values), dtype=bool, count=len(self.values))[self.codes]

    @property
    def filled(self) -> NDArray[np.bool_]:
        """The rows, bool (rows,), that hold any text."""
        return self.where(bool)


@dataclass(slots=True)
class Coder:
    """Collects a text column piece by piece."""

    _known: dict[str, int] = field(default_factory=dict)
    _codes: array[int] = field(default_factory=lambda: array("i"))

    def add(self, texts: Iterable[str]) -> None:
        """Append cells."""
        known = self._known
        self._codes.extend([known.setdefault(text, len(known)) for text in texts])

    def column(self) -> TextColumn:
        """What was collected."""
        return TextColumn(np.array(self._codes, dtype=np.int32), list(self._known))


@dataclass(frozen=True, slots=True, eq=False)
class NumberColumn:
    """Numbers of every row, float64 (rows,), nan where there is none. odd: text by row of cells that are no finite number."""

    values: NDArray[np.float64]
    odd: Mapping[int, str]

    @classmethod
    def none(cls, rows: int) -> NumberColumn:
        """A column that holds nothing."""
        return cls(np.full(rows, np.nan), {})

    @property
    def filled(self) -> NDArray[np.bool_]:
        """The rows, bool (rows,), that hold anything, be it a number or not."""
        found = ~np.isnan(self.values)
        found[list(self.odd)] = True
        return found


def by_appearance(codes: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number groups in the order in which they are first seen.

    Parameters
    ----------
    codes: integers (n,), equal where rows belong together.

    Returns
    -------
    Group numbers 0.. of each row, intp (n,), and the first row of each group, intp (groups,), rising.
    """
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return rank[inverse.reshape(-1)], first[order].astype(np.intp)
