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

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mammoscan.audit import lesions
from mammoscan.audit.lesions import Lesion
from mammoscan.core import identifiers
from mammoscan.core.errors import LabelError
from mammoscan.core.tablefile import IDENTIFIERS, decimal_mark, find_columns, number, plain, read_table

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
SIDES = {"l": "L", "left": "L", "r": "R", "right": "R"}
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
    labels: tuple[Label, ...]
    notes: tuple[str, ...] = ()


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

    table = read_table(path, fits)
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
    cases: dict[tuple[str, ...], list[_Row]] = {}
    problems: list[str] = []
    mark = decimal_mark(table, columns, NUMERIC)
    for line, cells in table.rows(columns):
        try:
            row = _row(line, cells, key, path, mark)
        except ValueError as error:
            problems.append(f"row {line}: {error}")
            continue
        cases.setdefault(row.key, []).append(row)
    labels = []
    for found in cases.values():
        try:
            labels.append(_merge(found, key))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise LabelError(shown, path=path, remedy="correct these rows; row 1 is the heading")
    if not labels:
        raise LabelError("no labels", path=path)
    return Labels(key, tuple(labels), table.notes)


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


def _row(line: int, cells: Mapping[str, str], key: Key, path: Path, mark: str) -> _Row:
    values = []
    for name in key.columns:
        value = cells[name]
        if not value:
            raise ValueError(f"{name} is empty")
        if why := identifiers.lost(value):
            raise ValueError(f"{name} {why}")
        if name == "laterality":
            if value.lower() not in SIDES:
                raise ValueError(f"laterality {value!r} is neither L nor R")
            value = SIDES[value.lower()]
        elif name == "view":
            value = value.upper()
        elif name == "path":
            value = value.replace("\\", "/").removeprefix("./")
        values.append(value)
    positive, class_name = read_class(cells["label"])
    density = cells.get("density", "").lower()
    if density in {"unknown", "na", "nan"}:
        density = ""
    if density and density not in DENSITIES:
        raise ValueError(f"density {density!r} is none of a to d or 1 to 4")
    size = _number(cells, "size_mm", mark)
    if size is not None and size <= 0:
        raise ValueError("size_mm must be above 0")
    seg = cells.get("seg", "")
    return _Row(
        line,
        tuple(values),
        positive,
        class_name,
        _lesion(cells, mark),
        (path.parent / seg) if seg else None,
        DENSITIES.get(density, ""),
        _number(cells, "age", mark),
        cells.get("lesion_kind", "").lower(),
        size,
        _stated(line, cells, key),
    )


def _stated(line: int, cells: Mapping[str, str], key: Key) -> tuple[tuple[int, str, str], ...]:
    """What a row says about its case beside the key, to be held against the result it meets."""
    side, view = SIDES.get(cells.get("laterality", "").lower(), ""), cells.get("view", "").upper()
    said = {
        "laterality": side,
        "view": "" if view == "UNKNOWN" else view,
        "study_instance_uid": cells.get("study_instance_uid", ""),
    }
    return tuple((line, name, value) for name, value in said.items() if value and name not in key.columns)


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
    if not text or text.lower() in {"nan", "na", "unknown"}:
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
