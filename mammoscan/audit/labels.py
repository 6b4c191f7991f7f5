"""Ground truth from a CSV file: who is it about, what is true, and where.

A row names its case by the first of these that the file has: ``sop_instance_uid``; ``path`` (below
the archive's root); ``patient_id`` with ``laterality`` (and ``view``); ``study_instance_uid``;
``patient_id``; or ``id`` for predictions made elsewhere. Other headings are given with
``--column name=heading``. Nothing is ever joined by position.

Several rows of one image are several lesions, if each has its own location. Any other repetition
is an error with its rows.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mammoscan.audit import lesions
from mammoscan.audit.lesions import Lesion
from mammoscan.errors import LabelError

# Name to the headings it is found under, in lower case with blanks and dashes as underscores.
COLUMNS: dict[str, tuple[str, ...]] = {
    "sop_instance_uid": ("sop_instance_uid", "sopinstanceuid", "sop_uid"),
    "path": ("path", "file", "file_path", "filename", "image"),
    "id": ("id", "case", "case_id", "image_id"),
    "patient_id": ("patient_id", "patientid", "patient", "patient_code"),
    "laterality": ("laterality", "side", "breast", "image_laterality"),
    "view": ("view", "view_position", "viewposition"),
    "study_instance_uid": ("study_instance_uid", "studyinstanceuid", "study_uid", "study"),
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
    """A file of labels, all about the same kind of case."""

    key: Key
    labels: tuple[Label, ...]


def plain(heading: str) -> str:
    """A heading as it is compared: lower case, blanks and dashes as underscores."""
    return heading.strip().lstrip("\ufeff").lower().replace(" ", "_").replace("-", "_")


def find_columns(
    headings: list[str], known: Mapping[str, tuple[str, ...]], chosen: Mapping[str, str], path: Path
) -> dict[str, int]:
    """Position of every known column in a heading row; ``chosen`` (name to heading) goes first.

    Raises
    ------
    LabelError
        Where a chosen heading does not exist, or two headings mean the same.
    """
    names = [plain(h) for h in headings]
    out: dict[str, int] = {}
    for name, heading in chosen.items():
        if plain(heading) not in names:
            raise LabelError(f"no column {heading!r}", path=path, remedy=f"it has: {', '.join(headings)}")
        out[name] = names.index(plain(heading))
    taken = set(out.values())
    for name, spellings in known.items():
        if name in out:
            continue
        found = [i for i, n in enumerate(names) if n in spellings and i not in taken]
        if len(found) > 1:
            exact = [i for i in found if names[i] == name]
            if len(exact) != 1:
                both = " and ".join(repr(headings[i]) for i in found)
                raise LabelError(
                    f"columns {both} could both be {name}",
                    path=path,
                    remedy=f"choose with --column {name}=HEADING",
                )
            found = exact
        if found:
            out[name] = found[0]
            taken.add(found[0])
    return out


def read_labels(path: Path, chosen: Mapping[str, str] | None = None) -> Labels:
    """Read and check a file of labels (UTF-8 CSV with a heading row).

    Raises
    ------
    LabelError
        With the rows, for anything that cannot be used: no key or label column, an unreadable
        value, duplicates, contradictions.
    """
    headings, rows = read_csv(path)
    columns = find_columns(headings, COLUMNS, chosen or {}, path)
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
    for line, cells in rows:
        try:
            row = _row(
                line,
                {name: cells[i].strip() if i < len(cells) else "" for name, i in columns.items()},
                key,
                path,
            )
        except ValueError as error:
            problems.append(f"row {line}: {error}")
            continue
        cases.setdefault(row.key, []).append(row)
    labels = []
    for found in cases.values():
        try:
            labels.append(_merge(found))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise LabelError(shown, path=path, remedy="correct these rows; row 1 is the heading")
    if not labels:
        raise LabelError("no labels", path=path)
    return Labels(key, tuple(labels))


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Heading row and (line number, cells) of a CSV file with comma, semicolon or tab."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"cannot be read as UTF-8 text: {error}", path=path) from error
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    rows = [(reader.line_num, cells) for cells in reader if any(c.strip() for c in cells)]
    if not rows:
        raise LabelError("the file is empty", path=path)
    return rows[0][1], rows[1:]


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


def _row(line: int, cells: Mapping[str, str], key: Key, path: Path) -> _Row:
    values = []
    for name in key.columns:
        value = cells[name]
        if not value:
            raise ValueError(f"{name} is empty")
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
    size = _number(cells, "size_mm")
    if size is not None and size <= 0:
        raise ValueError("size_mm must be above 0")
    seg = cells.get("seg", "")
    return _Row(
        line,
        tuple(values),
        positive,
        class_name,
        _lesion(cells),
        (path.parent / seg) if seg else None,
        DENSITIES.get(density, ""),
        _number(cells, "age"),
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


def _number(cells: Mapping[str, str], name: str) -> float | None:
    text = cells.get(name, "")
    if not text or text.lower() in {"nan", "na", "unknown"}:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{name} {text!r} is not a number") from error
    if not math.isfinite(value):
        raise ValueError(f"{name} {text!r} is not finite")
    return value


def _lesion(cells: Mapping[str, str]) -> Lesion | None:
    corners = [_number(cells, n) for n in ("x0", "y0", "x1", "y1")]
    x, y, radius = (_number(cells, n) for n in ("x", "y", "radius"))
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


def _merge(rows: list[_Row]) -> Label:
    lines = tuple(r.line for r in rows)
    where = "rows " + ", ".join(map(str, lines)) + f" ({' '.join(rows[0].key)})"
    if len(rows) > 1:
        if not all(r.located for r in rows):
            same = len({(r.positive, r.class_name) for r in rows}) == 1
            raise ValueError(f"{where}: {'duplicate' if same else 'contradictory'} labels")
        if len({r.place for r in rows}) < len(rows):
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
