"""Results to audit: the tables that a run wrote, or a table of scores made elsewhere."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscan.audit.images import CLASSES, ImageResult, ImageTable, MarkTable
from mammoscan.audit.labels import DENSITIES, SIDES
from mammoscan.core import identifiers
from mammoscan.core.columns import Coder, NumberColumn, TextColumn
from mammoscan.core.errors import LabelError
from mammoscan.core.tablefile import (
    IDENTIFIERS,
    Block,
    Columns,
    clean,
    find_columns,
    floats_of,
    mark_of_columns,
    number,
    numbers_of,
    open_table,
    plain,
    read_columns,
)
from mammoscan.core.tableforms import form_of

Floats = NDArray[np.float64]

# Name to the headings it is found under; the first is the run's own.
IMAGE_COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "case", "case_id", "image_id"),
    **IDENTIFIERS,
    "path": ("path", "file", "file_path", "filename"),
    "laterality": ("laterality", "side", "breast"),
    "view": ("view", "view_position"),
    "score": ("malignancy", "score", "malignancy_score", "prediction", "probability"),
    "normal": ("p_normal", "normal", "probability_normal"),
    "benign": ("p_benign", "benign", "probability_benign"),
    "malignant": ("p_malignant", "malignant", "probability_malignant"),
    "density": ("density", "breast_density"),
    "age": ("age_years", "age", "patient_age"),
    "manufacturer": ("manufacturer", "vendor"),
    "study_date": ("study_date", "studydate", "date"),
    "folder": ("report_folder", "folder", "reports", "report", "study_folder"),
}
FINDING_COLUMNS: dict[str, tuple[str, ...]] = {
    "sop_instance_uid": ("sop_instance_uid", "sopinstanceuid"),
    "number": ("finding", "number", "finding_number"),
    "kind": ("kind", "region_kind"),
    "x": ("centre_x", "centre_x_px", "center_x", "x"),
    "y": ("centre_y", "centre_y_px", "center_y", "y"),
    "x0": ("box_x0", "x0", "box_x0_px", "x0_px"),
    "y0": ("box_y0", "y0", "box_y0_px", "y0_px"),
    "x1": ("box_x1", "x1", "box_x1_px", "x1_px"),
    "y1": ("box_y1", "y1", "box_y1_px", "y1_px"),
    "area": ("area_px", "area_px2"),
    "score": ("malignancy", "score", "malignancy_score"),
}
_MARK_NUMBERS = ("x", "y", "x0", "y0", "x1", "y1", "area", "score")
FILE_COLUMNS: dict[str, tuple[str, ...]] = {
    "sop_instance_uid": ("sop_instance_uid", "sopinstanceuid"),
    "path": ("path", "file", "relative"),
    "status": ("status", "outcome", "result"),
    "reason": ("reason", "code", "reason_code"),
}
STUDY_COLUMNS = {
    "study_instance_uid": ("study_instance_uid",),
    "study": ("malignancy",),
    "L": ("malignancy_left",),
    "R": ("malignancy_right",),
}
NUMERIC = {"score", *CLASSES, "age"}


@dataclass(frozen=True, slots=True)
class Results:
    """All images of a run or a foreign table.

    thresholds: operating points, name to score, by what they are on: 'finding', 'image' or 'breast'.
    failed: identifier to the coded reason of files without a score. has_marks: whether findings with
    positions are known (else no FROC).
    """

    name: str
    source: Path
    images: Sequence[ImageResult]
    thresholds: Mapping[str, Mapping[str, float]]
    failed: Mapping[str, str]
    has_marks: bool
    archive: Path | None
    model: str
    notes: tuple[str, ...] = ()

    def points(self, level: str) -> dict[str, float]:
        """The operating points of a level, the run's own first; breasts, studies and patients share theirs."""
        return dict(self.thresholds.get({"region": "finding", "image": "image"}.get(level, "breast"), {}))


def is_run_folder(path: Path) -> bool:
    """Whether a folder was written by ``mammoscan run``."""
    return path.is_dir() and (path / "images.csv").is_file() and (path / "run.json").is_file()


def read_results(path: Path, chosen: Mapping[str, str] | None = None) -> Results:
    """Read a run's folder or a table.

    Raises
    ------
    LabelError
        Where a table cannot be used, or two rows carry the same identifier.
    """
    return _read_run(path) if path.is_dir() else _read_foreign(path, chosen or {})


def _read_run(folder: Path) -> Results:
    if not is_run_folder(folder):
        raise LabelError("not a results folder: images.csv or run.json is missing", path=folder)
    run = _json(folder / "run.json")
    marks = _read_marks(folder / "findings.csv")
    images, notes = _read_images(folder / "images.csv", {}, decimal=form_of(folder / "images.csv").decimal)
    if marks is not None:
        images = _with_marks(images, *marks)
    images = _with_cases(images, folder / "studies.csv")
    archive = _first(run, ("archive",), ("config", "archive"), ("configuration", "archive"))
    model = _first(run, ("model", "sha256"), ("model", "name"))
    return Results(
        name=folder.name,
        source=folder,
        images=images,
        thresholds=_thresholds(run),
        failed=_read_failed(folder / "files.csv"),
        has_marks=marks is not None,
        archive=Path(str(archive)) if archive else None,
        model=str(model or ""),
        notes=notes,
    )


def _read_foreign(path: Path, chosen: Mapping[str, str]) -> Results:
    images, notes = _read_images(path, chosen, foreign=True)
    return Results(path.stem, path, images, {}, {}, has_marks=False, archive=None, model="", notes=notes)


def _read_images(
    path: Path, chosen: Mapping[str, str], *, foreign: bool = False, decimal: str = "."
) -> tuple[ImageTable, tuple[str, ...]]:
    """The images, and what should be said of how they were read. foreign: by people, who use spreadsheets.

    decimal: the mark of a table that a run wrote.
    """
    chosen = {k: v for k, v in chosen.items() if k in IMAGE_COLUMNS}
    heading = {plain(chosen["score"])} if "score" in chosen else set(IMAGE_COLUMNS["score"])

    def fits(names: Collection[str]) -> bool:
        return not heading.isdisjoint(names)

    table = open_table(path, fits)
    columns = find_columns(table, IMAGE_COLUMNS, chosen)
    read = read_columns(table, columns, () if foreign or decimal != "." else NUMERIC)
    mark = mark_of_columns(path, read, NUMERIC) if foreign else decimal
    if "score" not in columns:
        raise LabelError("no score column", path=path, remedy="name one with --column score=HEADING")
    if not {"id", "sop_instance_uid", "path", "patient_id", "study_instance_uid"} & set(columns):
        raise LabelError(
            "no column says which case a row is about",
            path=path,
            remedy="give id, path, sop_instance_uid, study_instance_uid or patient_id (+ laterality, + view)",
        )
    images, problems = _images(read, mark, foreign=foreign)
    if problems:
        more = f"; and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise LabelError("; ".join(problems[:20]) + more, path=path)
    if not len(images):
        raise LabelError("no image has a score", path=path)
    return images, table.notes


def _images(read: Columns, mark: str, *, foreign: bool) -> tuple[ImageTable, list[str]]:
    """The images with a score, and what is wrong with rows: of each the first that is, in the order of the rows."""

    def text(name: str, change: Callable[[str], str] | None = None) -> TextColumn:
        column = read.text.get(name) or TextColumn.same("", len(read))
        return column.mapped(change) if change else column

    def numbers(name: str) -> NumberColumn:
        if name in read.text:
            return numbers_of(read.text[name], mark)
        return read.numbers.get(name) or NumberColumn.none(len(read))

    score, age, classes = numbers("score"), numbers("age"), [numbers(name) for name in CLASSES]
    problems: dict[int, str] = {}
    if foreign:
        for name in ("id", *IDENTIFIERS):
            for row in np.flatnonzero(text(name).where(lambda value: bool(identifiers.lost(value)))).tolist():
                problems.setdefault(row, f"{name} {identifiers.lost(text(name)[row])}")
    _not_numbers(problems, score.odd, "score", mark)
    sop, file = text("sop_instance_uid"), text("path", _below_archive)
    study, patient = text("study_instance_uid"), text("patient_id")
    side = text("laterality", lambda value: SIDES.get(value.lower(), ""))
    view = text("view", lambda value: "" if plain(value) == "unknown" else value.upper())
    name_of = _identifiers(text("id"), sop, file, (patient, study, side, view))
    for row in np.flatnonzero(~name_of.filled).tolist():
        problems.setdefault(row, "no identifier")
    known = classes[0].filled & classes[1].filled & classes[2].filled
    for name, column in zip(CLASSES, classes, strict=True):
        _not_numbers(problems, {row: cell for row, cell in column.odd.items() if known[row]}, name, mark)
    _not_numbers(problems, {row: cell for row, cell in age.odd.items() if cell.lower() != "unknown"}, "age", mark)
    # A row without a score is a failed image of a run; its reason is in files.csv.
    scored = score.filled
    sound = scored.copy()
    sound[list(problems)] = False
    lines = read.rows.tolist()
    said = {row: f"row {lines[row]}: {why}" for row, why in problems.items() if scored[row]}
    kept = np.flatnonzero(sound)
    codes = name_of.codes[kept]
    order = np.argsort(codes, kind="stable")
    for at in np.flatnonzero(np.diff(codes[order]) == 0).tolist():
        first, again = kept[order[at]], kept[order[at + 1]]
        said[int(again)] = f"rows {lines[first]} and {lines[again]}: the same image {name_of[again]}"
    images = ImageTable(
        ids=name_of.taken(kept),
        sop_instance_uids=sop.taken(kept),
        paths=file.taken(kept),
        patient_ids=patient.taken(kept),
        study_instance_uids=study.taken(kept),
        lateralities=side.taken(kept),
        views=view.taken(kept),
        scores=score.values[kept],
        classes=np.where(known[kept, None], np.column_stack([c.values[kept] for c in classes]), np.nan),
        densities=text("density", lambda value: DENSITIES.get(value.lower(), "")).taken(kept),
        ages=age.values[kept],
        manufacturers=text("manufacturer").taken(kept),
        years=text("study_date", _year).taken(kept),
        folders=text("folder").taken(kept),
        breast_scores=np.full(len(kept), np.nan),
        study_scores=np.full(len(kept), np.nan),
        rows=read.rows[kept],
        marks=MarkTable.of([]),
        mark_keys=np.full(len(kept), -1, dtype=np.intp),
    )
    return images, [said[row] for row in sorted(said)]


def _not_numbers(problems: dict[int, str], odd: Mapping[int, str], name: str, mark: str) -> None:
    """Note what is wrong with cells, text by row, of which none is a number."""
    for row, cell in odd.items():
        try:
            number(cell, name, mark)
        except ValueError as error:
            problems.setdefault(row, str(error))


def _identifiers(own: TextColumn, sop: TextColumn, file: TextColumn, parts: tuple[TextColumn, ...]) -> TextColumn:
    """What tells images apart: the first of identifier, UID and path that a row has.

    Scores of another system may be by study, patient or breast; then that is what tells rows apart.
    """
    for column in (own, sop, file):
        filled = column.filled
        if filled.all():
            return column
        if filled.any():
            break
    rows = zip(own, sop, file, *parts, strict=True)
    return TextColumn.of(a or b or c or " ".join(filter(None, rest)) for a, b, c, *rest in rows)


def _below_archive(path: str) -> str:
    return path.replace("\\", "/").removeprefix("./")


def _year(date: str) -> str:
    found = re.match(r"(\d{4})", date)
    return found[1] if found else ""


def _read_marks(path: Path) -> tuple[list[str], MarkTable] | None:
    """UIDs of images and the marks of each, by their place; None where findings have no positions."""
    if not path.is_file():
        return None
    table = open_table(path)
    columns = find_columns(table, FINDING_COLUMNS)
    if not {"sop_instance_uid", "x", "y", "score"} <= set(columns):
        return None
    decimal = form_of(path).decimal
    texts = {name: Coder() for name in ("sop_instance_uid", "number", "kind")}
    pieces: list[Floats] = []
    for block in table.blocks(columns):
        nothing = ("",) * len(block.numbers)
        for name, coder in texts.items():
            coder.add(block.cells.get(name, nothing))
        pieces.append(_mark_numbers(path, block, decimal))
    values = np.concatenate([np.zeros((0, len(_MARK_NUMBERS))), *pieces])
    found = {name: coder.column().mapped(clean) for name, coder in texts.items()}
    order = np.argsort(found["sop_instance_uid"].codes, kind="stable")
    uids = list(found["sop_instance_uid"].values)
    counts = np.bincount(found["sop_instance_uid"].codes, minlength=len(uids))
    values = values[order]
    marks = MarkTable(
        numbers=found["number"].taken(order),
        centres=values[:, :2],
        boxes=values[:, 2:6],
        areas=values[:, 6],
        scores=values[:, 7],
        kinds=found["kind"].taken(order),
        starts=np.append(0, np.cumsum(counts)),
    )
    return uids, marks


def _mark_numbers(path: Path, block: Block, decimal: str) -> Floats:
    """What is numeric of some findings, (rows, 8), in the order of ``_MARK_NUMBERS``; a box only where all corners are."""
    nothing = ("",) * len(block.numbers)
    cells = [block.cells.get(name, nothing) for name in _MARK_NUMBERS]
    if decimal != ".":
        cells = [tuple(cell.replace(decimal, ".") for cell in column) for column in cells]
    columns = [floats_of(column) for column in cells]
    boxed = np.logical_and.reduce([c.filled for c in columns[2:6]])
    missing = ~(columns[0].filled & columns[1].filled & columns[7].filled)
    wrong = sorted({row for column in columns for row in column.odd} | set(np.flatnonzero(missing).tolist()))
    for row in wrong:
        try:
            for place in (*((2, 3, 4, 5) if boxed[row] else ()), 0, 1, *((6,) if clean(cells[6][row]) else ()), 7):
                name = "box" if place in {2, 3, 4, 5} else _MARK_NUMBERS[place]
                number(clean(cells[place][row]), name)
        except ValueError as error:
            raise LabelError(f"row {block.numbers[row]}: {error}", path=path) from error
    out = np.column_stack([c.values for c in columns])
    out[~boxed, 2:6] = np.nan
    return out


def _with_marks(images: ImageTable, uids: Sequence[str], marks: MarkTable) -> ImageTable:
    """The images with their marks, ``uids`` saying whose they are."""
    places = {uid: key for key, uid in enumerate(uids)}
    of_value = np.fromiter(
        (places.get(uid, -1) for uid in images.sop_instance_uids.values),
        dtype=np.intp,
        count=len(images.sop_instance_uids.values),
    )
    return replace(images, marks=marks, mark_keys=of_value[images.sop_instance_uids.codes])


def _read_failed(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    table = open_table(path)
    columns = find_columns(table, FILE_COLUMNS)
    if "reason" not in columns:
        return {}
    out: dict[str, str] = {}
    for block in table.blocks(columns):
        for row, cell in enumerate(block.cells["reason"]):
            reason = clean(cell) if cell else ""
            for name in ("sop_instance_uid", "path") if reason else ():
                if identifier := clean(block.cells[name][row]) if name in columns else "":
                    out.setdefault(identifier, reason)
    return out


def _thresholds(run: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The run's own operating point first, then the model's others. A run may state one for all."""
    out: dict[str, dict[str, float]] = {}
    stated = run.get("operating_points")
    for what, key in (("image", "threshold"), ("breast", "breast_threshold"), ("finding", "finding_threshold")):
        points: dict[str, float] = {}
        own = run.get(key, run.get("threshold"))
        if isinstance(own, int | float):
            points[str(run.get("threshold_name") or "run")] = float(own)
        others = stated.get(what) if isinstance(stated, Mapping) else None
        for name, value in (others or {}).items():
            points.setdefault(str(name), float(value))
        out[what] = points
    return out


def _with_cases(images: ImageTable, path: Path) -> ImageTable:
    """The images with the scores that the run's ``studies.csv`` gives their breasts and studies."""
    if not path.is_file():
        return images
    table = open_table(path)
    columns = find_columns(table, STUDY_COLUMNS)
    if "study_instance_uid" not in columns:
        return images
    sides = ("study", "L", "R")
    decimal = form_of(path).decimal
    read = read_columns(table, columns, sides if decimal == "." else ())
    found = {
        side: read.numbers.get(side)
        or (numbers_of(read.text[side], decimal) if side in read.text else NumberColumn.none(len(read)))
        for side in sides
    }
    problems: dict[int, str] = {}
    for side in sides:
        _not_numbers(problems, found[side].odd, side, decimal)
    if problems:
        row = min(problems)
        raise LabelError(f"row {read.rows[row]}: {problems[row]}", path=path)
    # A study that comes again counts as it stands last; one that isn't there has none, behind the others.
    places = {uid: row for row, uid in enumerate(read.text["study_instance_uid"])}
    studies = images.study_instance_uids
    of_value = [places.get(uid, len(read)) for uid in studies.values]
    rows = np.array(of_value, dtype=np.intp)[studies.codes]
    scores = {side: np.append(column.values, np.nan)[rows] for side, column in found.items()}
    left, right = (images.lateralities.where(partial(operator.eq, side)) for side in ("L", "R"))
    return replace(
        images,
        breast_scores=np.where(left, scores["L"], np.where(right, scores["R"], np.nan)),
        study_scores=scores["study"],
    )


def _first(data: Any, *routes: tuple[str, ...]) -> Any:
    for route in routes:
        value = data
        for step in route:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None and not (len(route) == 1 and isinstance(value, Mapping) and route[0] == "threshold"):
            return value
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabelError(f"cannot be read: {error}", path=path) from error
    return data if isinstance(data, dict) else {}
