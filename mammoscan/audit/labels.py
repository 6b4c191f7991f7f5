"""Ground truth from a table (text or workbook): who is it about, what is true, and where.

A row names its case by the first of these that the file has: ``sop_instance_uid``; ``path`` (below
the archive's root); ``patient_id`` with ``laterality`` (and ``view``); ``study_instance_uid``;
``patient_id``; or ``id`` for predictions made elsewhere. Other headings are given with
``--column name=heading``. Nothing is ever joined by position.

Several rows of one image are several lesions, if each has its own location. Rows about more than one image (a view,
breast, study or patient) may repeat their label, once for each image. Any other repetition, and any contradiction, is
an error with its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoscan.audit import lesions
from mammoscan.audit.lesions import Lesion
from mammoscan.core import identifiers
from mammoscan.core.columns import Made, NumberColumn, TextColumn, by_appearance
from mammoscan.core.errors import LabelError
from mammoscan.core.tablefile import (
    IDENTIFIERS,
    Columns,
    find_columns,
    mark_of_columns,
    number,
    numbers_of,
    open_table,
    plain,
    read_columns,
    without_opinions,
)

Floats = NDArray[np.float64]

# Name to the headings it is found under, in lower case with blanks and dashes as underscores.
COLUMNS: dict[str, tuple[str, ...]] = {
    **IDENTIFIERS,
    "path": ("path", "file", "file_path", "filename", "image"),
    "id": ("id", "case", "case_id", "image_id"),
    "laterality": ("laterality", "side", "breast", "image_laterality"),
    "view": ("view", "view_position", "viewposition"),
    "label": ("label", "truth", "malignant", "cancer", "pathology", "class", "outcome"),
    "x": ("x", "centre_x", "center_x", "lesion_x"),
    "y": ("y", "centre_y", "center_y", "lesion_y"),
    "radius": ("radius", "radius_px", "r"),
    "x0": ("x0", "xmin", "x_min", "box_x0"),
    "y0": ("y0", "ymin", "y_min", "box_y0"),
    "x1": ("x1", "xmax", "x_max", "box_x1"),
    "y1": ("y1", "ymax", "y_max", "box_y1"),
    "seg": ("seg", "segmentation", "seg_file"),
    "density": ("density", "breast_density", "birads_density", "acr_density"),
    "age": ("age", "age_years", "patient_age"),
    "lesion_kind": ("lesion_kind", "kind", "lesion_type", "abnormality", "finding"),
    "size_mm": ("size_mm", "lesion_size_mm", "diameter_mm", "size"),
}
NUMERIC = {"x", "y", "radius", "x0", "y0", "x1", "y1", "age", "size_mm"}
POSITIVE = {"1", "1.0", "malignant", "cancer", "positive", "pos", "yes", "true", "m"}
BENIGN = {"benign", "benign_without_callback", "b"}
NORMAL = {"normal", "n"}
NEGATIVE = {"0", "0.0", "negative", "neg", "no", "false", "no_cancer"} | BENIGN | NORMAL
_NOTHING = {"nan", "na", "unknown"}  # what stands for no number
_PLACE = ("x", "y", "radius", "x0", "y0", "x1", "y1")
SIDES = {"l": "L", "left": "L", "r": "R", "right": "R"}
# How parts of a key are compared, and what rows say beside it, to be held against the result that they meet.
_KEY_SPELLING: dict[str, Callable[[str], str]] = {
    "laterality": lambda value: SIDES.get(value.lower(), ""),
    "view": str.upper,
    "path": lambda value: value.replace("\\", "/").removeprefix("./"),
}
_STATED: dict[str, Callable[[str], str]] = {
    "laterality": lambda value: SIDES.get(value.lower(), ""),
    "view": lambda value: "" if value.upper() == "UNKNOWN" else value.upper(),
    "study_instance_uid": str,
}
DENSITIES = {"1": "a", "2": "b", "3": "c", "4": "d", "a": "a", "b": "b", "c": "c", "d": "d"}


class Key(str, Enum):
    """What a label row is about; also the finest level that its truth supports."""

    SOP = "sop_instance_uid"
    PATH = "path"
    ID = "id"
    VIEW = "patient_id+laterality+view"
    BREAST = "patient_id+laterality"
    STUDY = "study_instance_uid"
    PATIENT = "patient_id"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that make the key."""
        return tuple(self.value.split("+"))


# A label's class is the last of these that any of its rows has.
CLASS_NAMES = ("", "normal", "benign", "malignant")
# Keys of one image each: to say the same twice is a slip. The others are about several, each with a row of its own.
ONE_IMAGE = {Key.SOP, Key.PATH, Key.ID}
KEYS = (Key.SOP, Key.PATH, Key.VIEW, Key.BREAST, Key.STUDY, Key.PATIENT, Key.ID)


@dataclass(frozen=True, slots=True)
class Label:
    """The truth about one case.

    rows: line numbers in the file. positive: malignant. class_name: normal, benign, malignant,
    or '' where the file only says positive or negative. lesions: malignant ones with location;
    other_lesions: benign ones. located: whether every malignant row has a location. segs,
    other_segs: (row, SEG file) of malignant and of benign rows. stated: (row, column, value) of
    side, view and study where the rows give them beside the key.
    """

    key: tuple[str, ...]
    rows: tuple[int, ...]
    positive: bool
    class_name: str
    lesions: tuple[Lesion, ...]
    other_lesions: tuple[Lesion, ...]
    located: bool
    density: str
    age: float | None
    lesion_kind: str
    size_mm: float | None
    segs: tuple[tuple[int, Path], ...] = ()
    other_segs: tuple[tuple[int, Path], ...] = ()
    stated: tuple[tuple[int, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Labels:
    """A file of labels, all about the same kind of case. notes: what should be said of how it was read."""

    key: Key
    labels: LabelTable
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class LabelTable(Made[Label]):
    """All labels, by column; an item is a ``Label``, made of the rows that are about its case.

    Of rows (r,): lines, the row numbers in the file; keys, a column for each part; positive; classes, places in
    ``CLASS_NAMES``; densities; ages and sizes, nan where there is none; lesions, segs: by row; stated: by name of the column.
    Of labels (n,): order, intp (r,), rows with those of a label together; starts, intp (n + 1,), where they begin in it.
    """

    key: Key
    lines: NDArray[np.int64]
    keys: tuple[TextColumn, ...]
    positive: NDArray[np.bool_]
    classes: NDArray[np.intp]
    densities: TextColumn
    ages: Floats
    lesion_kinds: TextColumn
    sizes: Floats
    lesions: Mapping[int, Lesion]
    segs: Mapping[int, Path]
    stated: Mapping[str, TextColumn]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def made(self, index: int) -> Label:
        return _merge([self._row(row) for row in self.rows_of(index)], self.key)

    def rows_of(self, index: int) -> list[int]:
        """The rows that are about a label's case."""
        rows: list[int] = self.order[self.starts[index] : self.starts[index + 1]].tolist()
        return rows

    def _row(self, row: int) -> _Row:
        age, size = float(self.ages[row]), float(self.sizes[row])
        line = int(self.lines[row])
        said = ((name, column[row]) for name, column in self.stated.items())
        return _Row(
            line,
            tuple(part[row] for part in self.keys),
            bool(self.positive[row]),
            CLASS_NAMES[self.classes[row]],
            self.lesions.get(row),
            self.segs.get(row),
            self.densities[row],
            None if np.isnan(age) else age,
            self.lesion_kinds[row],
            None if np.isnan(size) else size,
            tuple((line, name, value) for name, value in said if value),
        )

    @property
    def firsts(self) -> NDArray[np.intp]:
        """Each label's first row, (n,)."""
        return self.order[self.starts[:-1]]

    @property
    def counts(self) -> NDArray[np.intp]:
        """How many rows each label has, (n,)."""
        return np.diff(self.starts)

    def mains(self) -> NDArray[np.intp]:
        """The row, (n,), that each label's density, age, kind and size are of: the first malignant one, else the first."""
        behind = len(self.order)
        places = np.where(self.positive[self.order], np.arange(behind), behind)
        first = np.minimum.reduceat(places, self.starts[:-1])
        return self.order[np.where(first < behind, first, self.starts[:-1])]

    def positives(self) -> NDArray[np.bool_]:
        """Whether each label is malignant, (n,)."""
        return np.logical_or.reduceat(self.positive[self.order], self.starts[:-1])

    def worst_classes(self) -> NDArray[np.intp]:
        """The class of each label, (n,), as places in ``CLASS_NAMES``."""
        return np.maximum.reduceat(self.classes[self.order], self.starts[:-1])

    def located(self) -> NDArray[np.bool_]:
        """Whether every malignant row of each label has a location, (n,)."""
        return np.logical_and.reduceat((self._places() | ~self.positive)[self.order], self.starts[:-1])

    def placed(self) -> NDArray[np.bool_]:
        """Whether any row of each label has a location, (n,)."""
        return np.logical_or.reduceat(self._places()[self.order], self.starts[:-1])

    def _places(self) -> NDArray[np.bool_]:
        place = np.zeros(len(self.lines), dtype=bool)
        place[list(self.lesions)] = True
        place[list(self.segs)] = True
        return place

    def written(self) -> Iterator[tuple[str, ...]]:
        """The key of each label."""
        firsts = self.firsts
        return zip(*(part.taken(firsts) for part in self.keys), strict=True)


def read_labels(path: Path, chosen: Mapping[str, str] | None = None) -> Labels:
    """Read and check a table of labels with a heading row, in any form that ``tablefile`` reads.

    Raises
    ------
    LabelError
        With the rows, for anything that cannot be used: no key or label column, an unreadable
        value, duplicates, contradictions.
    """
    heading = {plain((chosen or {}).get("label", "label"))} if chosen and "label" in chosen else set(COLUMNS["label"])

    def fits(names: Collection[str]) -> bool:
        return not heading.isdisjoint(names)

    table = without_opinions(open_table(path, fits))
    columns = find_columns(table, COLUMNS, chosen)
    if "label" not in columns:
        raise LabelError("no label column", path=path, remedy="name one with --column label=HEADING")
    key = next((k for k in KEYS if all(c in columns for c in k.columns)), None)
    if key is None:
        raise LabelError(
            "no column says which case a row is about",
            path=path,
            remedy="give sop_instance_uid, path, patient_id (+ laterality, + view), study_instance_uid or id",
        )
    read = read_columns(table, columns)
    labels, problems = _labels(read, key, path, mark_of_columns(path, read, NUMERIC))
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise LabelError(shown, path=path, remedy="correct these rows; row 1 is the heading")
    if not len(labels):
        raise LabelError("no labels", path=path)
    return Labels(key, labels, table.notes)


def _labels(read: Columns, key: Key, path: Path, mark: str) -> tuple[LabelTable, list[str]]:
    """The labels and what is wrong with rows, then with cases: of each the first that is.

    Columns are judged whole, each distinct text once. Only what is not sound, or has a location, is read row by row.
    """

    def text(name: str) -> TextColumn:
        return read.text.get(name) or TextColumn.same("", len(read))

    def numbers(name: str) -> NumberColumn:
        return numbers_of(text(name), mark, _NOTHING)

    age, size = numbers("age"), numbers("size_mm")
    density = text("density")
    wrong = text("label").where(lambda value: _class_of(value) is None)
    for name in key.columns:
        wrong |= ~text(name).where(partial(_usable, name))
    wrong |= density.where(lambda value: _density(value) is None)
    wrong[list(age.odd)] = True
    wrong[list(size.odd)] = True
    wrong |= size.values <= 0
    places = np.zeros(len(read), dtype=bool)
    for name in _PLACE:
        places |= text(name).filled
    lines = read.rows.tolist()
    found: dict[int, Lesion] = {}
    why: dict[int, str] = {}
    for row in np.flatnonzero(wrong | places).tolist():
        cells = read.cells(row)
        try:
            if wrong[row]:
                _check(cells, key, mark)
            if (lesion := _lesion(cells, mark)) is not None:
                found[row] = lesion
            _number(cells, "age", mark)
        except ValueError as error:
            why[row] = f"row {lines[row]}: {error}"
    sound = np.ones(len(read), dtype=bool)
    sound[list(why)] = False
    keys = tuple(text(name).mapped(_KEY_SPELLING.get(name, str)) for name in key.columns)
    of_case = np.zeros(len(read), dtype=np.int64)
    for part in keys:
        of_case = of_case * len(part.values) + part.codes
    rows = np.flatnonzero(sound)
    cases, _ = by_appearance(of_case[rows])
    order = np.argsort(cases, kind="stable")
    segs = text("seg")
    classes = text("label")
    of_value = [_class_of(value) or (False, "") for value in classes.values]
    labels = LabelTable(
        key=key,
        lines=read.rows,
        keys=keys,
        positive=np.array([positive for positive, _ in of_value], dtype=bool)[classes.codes],
        classes=np.array([CLASS_NAMES.index(name) for _, name in of_value], dtype=np.intp)[classes.codes],
        densities=density.mapped(lambda value: _density(value) or ""),
        ages=age.values,
        lesion_kinds=text("lesion_kind").mapped(str.lower),
        sizes=size.values,
        lesions=found,
        segs={row: path.parent / segs[row] for row in np.flatnonzero(segs.filled & sound).tolist()},
        stated={
            name: text(name).mapped(spelling)
            for name, spelling in _STATED.items()
            if name in read.text and name not in key.columns
        },
        order=rows[order],
        starts=np.append(0, np.cumsum(np.bincount(cases))).astype(np.intp),
    )
    return labels, [why[row] for row in sorted(why)] + _mergers(labels)


def _mergers(labels: LabelTable) -> list[str]:
    """What is wrong with labels of several rows, one by one."""
    if not len(labels):
        return []
    several = labels.counts > 1
    if labels.key not in ONE_IMAGE:
        # Rows without a location that agree in everything are right: a label repeated for each image.
        alike = ~labels.placed()
        ages = np.where(np.isnan(labels.ages), -np.inf, labels.ages)
        for column in (labels.positive, labels.classes, labels.densities.codes, ages):
            sorted_ = column[labels.order]
            alike &= np.maximum.reduceat(sorted_, labels.starts[:-1]) == np.minimum.reduceat(
                sorted_, labels.starts[:-1]
            )
        several &= ~alike
    problems = []
    for case in np.flatnonzero(several).tolist():
        try:
            labels.made(case)
        except ValueError as error:
            problems.append(str(error))
    return problems


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    key: tuple[str, ...]
    positive: bool
    class_name: str
    lesion: Lesion | None
    seg: Path | None
    density: str
    age: float | None
    kind: str
    size_mm: float | None
    stated: tuple[tuple[int, str, str], ...]

    @property
    def located(self) -> bool:
        return self.lesion is not None or self.seg is not None

    @property
    def place(self) -> object:
        return (self.lesion.box, self.lesion.radius) if self.lesion else self.seg


def _unusable(name: str, value: str) -> str:
    """Why a cell cannot be this part of a key, '' where it can."""
    if not value:
        return "is empty"
    if why := identifiers.lost(value):
        return why
    return f"{value!r} is neither L nor R" if name == "laterality" and value.lower() not in SIDES else ""


def _usable(name: str, value: str) -> bool:
    return not _unusable(name, value)


def _check(cells: Mapping[str, str], key: Key, mark: str) -> None:
    """Raise ValueError with the first thing that is wrong with a row, but for its location and age."""
    for name in key.columns:
        if why := _unusable(name, cells[name]):
            raise ValueError(f"{name} {why}")
    read_class(cells["label"])
    if _density(cells.get("density", "")) is None:
        raise ValueError(f"density {cells['density'].lower()!r} is none of a to d or 1 to 4")
    size = _number(cells, "size_mm", mark)
    if size is not None and size <= 0:
        raise ValueError("size_mm must be above 0")


def _density(text: str) -> str | None:
    """The letter of a density, '' for an unknown one, None for what is none."""
    value = text.lower()
    return "" if value in {"", "unknown", "na", "nan"} else DENSITIES.get(value)


def _class_of(text: str) -> tuple[bool, str] | None:
    """As ``read_class``, None where a text is none that is known."""
    try:
        return read_class(text)
    except ValueError:
        return None


def read_class(text: str) -> tuple[bool, str]:
    """(malignant, class name) of a label's text; ValueError where it is none that is known."""
    value = plain(text)
    if value in POSITIVE:
        return True, "malignant"
    if value in NEGATIVE:
        return False, "benign" if value in BENIGN else "normal" if value in NORMAL else ""
    raise ValueError(f"label {text!r} is none of malignant, benign, normal, positive, negative, 1, 0, yes, no")


def _number(cells: Mapping[str, str], name: str, mark: str) -> float | None:
    text = cells.get(name, "")
    if not text or text.lower() in _NOTHING:
        return None
    return number(text, name, mark)


def _lesion(cells: Mapping[str, str], mark: str) -> Lesion | None:
    corners = [_number(cells, n, mark) for n in ("x0", "y0", "x1", "y1")]
    x, y, radius = (_number(cells, n, mark) for n in ("x", "y", "radius"))
    if all(c is not None for c in corners):
        x0, y0, x1, y1 = (float(c) for c in corners if c is not None)
        if not (x0 < x1 and y0 < y1):
            raise ValueError("the box needs x0 < x1 and y0 < y1")
        return lesions.box(x0, y0, x1, y1)
    if any(c is not None for c in corners):
        raise ValueError("a box needs x0, y0, x1 and y1")
    if x is None and y is None and radius is None:
        return None
    if x is None or y is None or radius is None:
        raise ValueError("a location needs x, y and radius")
    if radius <= 0:
        raise ValueError("radius must be above 0")
    return lesions.circle(x, y, radius)


def _merge(rows: list[_Row], key: Key) -> Label:
    lines = tuple(r.line for r in rows)
    where = "rows " + ", ".join(map(str, lines)) + f" ({' '.join(rows[0].key)})"
    if len(rows) > 1:
        if not all(r.located for r in rows):
            same = len({(r.positive, r.class_name) for r in rows}) == 1
            if not same or key in ONE_IMAGE:
                raise ValueError(f"{where}: {'duplicate' if same else 'contradictory'} labels")
        placed = [r.place for r in rows if r.located]
        if len(set(placed)) < len(placed):
            raise ValueError(f"{where}: the same location twice")
        for name in ("density", "age"):
            if len({getattr(r, name) for r in rows}) > 1:
                raise ValueError(f"{where}: contradictory {name}")
    positive = any(r.positive for r in rows)
    bad = [r for r in rows if r.positive]
    main = bad[0] if bad else rows[0]
    names = {r.class_name for r in rows}
    class_name = next((n for n in ("malignant", "benign", "normal") if n in names), "")
    return Label(
        key=rows[0].key,
        rows=lines,
        positive=positive,
        class_name=class_name,
        lesions=tuple(r.lesion for r in bad if r.lesion is not None),
        other_lesions=tuple(r.lesion for r in rows if not r.positive and r.lesion is not None),
        located=all(r.located for r in bad),
        density=main.density,
        age=main.age,
        lesion_kind=main.kind,
        size_mm=main.size_mm,
        segs=tuple((r.line, r.seg) for r in bad if r.seg is not None),
        other_segs=tuple((r.line, r.seg) for r in rows if not r.positive and r.seg is not None),
        stated=tuple(s for r in rows for s in r.stated),
    )
