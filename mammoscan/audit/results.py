"""Results to audit: the tables that a run wrote, or a table of scores made elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mammoscan.audit.labels import DENSITIES, SIDES
from mammoscan.audit.lesions import Mark
from mammoscan.core import identifiers
from mammoscan.core.errors import LabelError
from mammoscan.core.tablefile import IDENTIFIERS, decimal_mark, find_columns, number, plain, read_table

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
CLASSES = ("normal", "benign", "malignant")
NUMERIC = {"score", *CLASSES, "age"}


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image's score with what is known about it; '' and None where nothing is.

    score: higher is more suspicious; a probability where all scores lie in 0 to 1.
    classes: probabilities of normal, benign, malignant, or None. folder: the study's reports.
    breast_score, study_score: those that the run gave its breast and its study, from all their images.
    row: its row in the table.
    """

    id: str
    sop_instance_uid: str
    path: str
    patient_id: str
    study_instance_uid: str
    laterality: str
    view: str
    score: float
    classes: tuple[float, float, float] | None
    density: str
    age: float | None
    manufacturer: str
    year: str
    folder: str
    marks: tuple[Mark, ...] = ()
    breast_score: float | None = None
    study_score: float | None = None
    row: int = 0

    def score_for(self, level: str) -> float:
        """The score that stands for this image's part in a case of a level."""
        own = {"breast": self.breast_score, "study": self.study_score, "patient": self.study_score}.get(level)
        return self.score if own is None else own


@dataclass(frozen=True, slots=True)
class Results:
    """All images of a run or a foreign table.

    thresholds: operating points, name to score, by what they are on: 'finding', 'image' or 'breast'.
    failed: identifier to the coded reason of files without a score. has_marks: whether findings with
    positions are known (else no FROC).
    """

    name: str
    source: Path
    images: tuple[ImageResult, ...]
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
    images, notes = _read_images(folder / "images.csv", {}, marks or {})
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
    images, notes = _read_images(path, chosen, {}, foreign=True)
    return Results(path.stem, path, images, {}, {}, has_marks=False, archive=None, model="", notes=notes)


def _read_images(
    path: Path, chosen: Mapping[str, str], marks: Mapping[str, list[Mark]], *, foreign: bool = False
) -> tuple[tuple[ImageResult, ...], tuple[str, ...]]:
    """The images, and what should be said of how they were read. foreign: by people, who use spreadsheets."""
    chosen = {k: v for k, v in chosen.items() if k in IMAGE_COLUMNS}
    heading = {plain(chosen["score"])} if "score" in chosen else set(IMAGE_COLUMNS["score"])

    def fits(names: Collection[str]) -> bool:
        return not heading.isdisjoint(names)

    table = read_table(path, fits)
    columns = find_columns(table, IMAGE_COLUMNS, chosen)
    mark = decimal_mark(table, columns, NUMERIC) if foreign else "."
    if "score" not in columns:
        raise LabelError("no score column", path=path, remedy="name one with --column score=HEADING")
    if not {"id", "sop_instance_uid", "path", "patient_id", "study_instance_uid"} & set(columns):
        raise LabelError(
            "no column says which case a row is about",
            path=path,
            remedy="give id, path, sop_instance_uid, study_instance_uid or patient_id (+ laterality, + view)",
        )
    images: list[ImageResult] = []
    seen: dict[str, int] = {}
    problems: list[str] = []
    for line, get in table.rows(columns):
        if get["score"] == "":
            continue  # a failed image of a run; its reason is in files.csv
        try:
            if foreign:
                _check_identifiers(get)
            image = _image(get, marks, line, mark)
        except ValueError as error:
            problems.append(f"row {line}: {error}")
            continue
        if image.id in seen:
            problems.append(f"rows {seen[image.id]} and {line}: the same image {image.id}")
        seen[image.id] = line
        images.append(image)
    if problems:
        more = f"; and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise LabelError("; ".join(problems[:20]) + more, path=path)
    if not images:
        raise LabelError("no image has a score", path=path)
    return tuple(images), table.notes


def _check_identifiers(get: Mapping[str, str]) -> None:
    for name in ("id", *IDENTIFIERS):
        if why := identifiers.lost(get.get(name, "")):
            raise ValueError(f"{name} {why}")


def _image(get: Mapping[str, str], marks: Mapping[str, list[Mark]], row: int, mark: str) -> ImageResult:
    score = number(get["score"], "score", mark)
    sop, file = get.get("sop_instance_uid", ""), get.get("path", "").replace("\\", "/").removeprefix("./")
    study, patient = get.get("study_instance_uid", ""), get.get("patient_id", "")
    side = SIDES.get(get.get("laterality", "").lower(), "")
    view = "" if plain(get.get("view", "")) == "unknown" else get.get("view", "").upper()
    # Scores of another system may be by study, patient or breast; then that is what tells rows apart.
    identifier = get.get("id", "") or sop or file or " ".join(v for v in (patient, study, side, view) if v)
    if not identifier:
        raise ValueError("no identifier")
    classes = None
    if all(get.get(c, "") for c in CLASSES):
        normal, benign, malignant = (number(get[c], c, mark) for c in CLASSES)
        classes = (normal, benign, malignant)
    date = get.get("study_date", "")
    year = re.match(r"(\d{4})", date)
    age = get.get("age", "")
    folder = get.get("folder", "")
    return ImageResult(
        id=identifier,
        sop_instance_uid=sop,
        path=file,
        patient_id=patient,
        study_instance_uid=study,
        laterality=side,
        view=view,
        score=score,
        classes=classes,
        density=DENSITIES.get(get.get("density", "").lower(), ""),
        age=number(age, "age", mark) if age and age.lower() != "unknown" else None,
        manufacturer=get.get("manufacturer", ""),
        year=year.group(1) if year else "",
        folder=folder,
        marks=tuple(marks.get(sop, ())),
        row=row,
    )


def _read_marks(path: Path) -> dict[str, list[Mark]] | None:
    if not path.is_file():
        return None
    table = read_table(path)
    columns = find_columns(table, FINDING_COLUMNS)
    if not {"sop_instance_uid", "x", "y", "score"} <= set(columns):
        return None
    out: dict[str, list[Mark]] = {}
    for line, get in table.rows(columns):
        try:
            corners = [get.get(n, "") for n in ("x0", "y0", "x1", "y1")]
            box = None
            if all(corners):
                x0, y0, x1, y1 = (number(c, "box") for c in corners)
                box = (x0, y0, x1, y1)
            area = get.get("area", "")
            mark = Mark(
                number=get.get("number", ""),
                centre=(number(get["x"], "x"), number(get["y"], "y")),
                box=box,
                area=number(area, "area") if area else None,
                score=number(get["score"], "score"),
                kind=get.get("kind", ""),
            )
        except ValueError as error:
            raise LabelError(f"row {line}: {error}", path=path) from error
        out.setdefault(get["sop_instance_uid"], []).append(mark)
    return out


def _read_failed(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    table = read_table(path)
    columns = find_columns(table, FILE_COLUMNS)
    if "reason" not in columns:
        return {}
    out: dict[str, str] = {}
    for _, get in table.rows(columns):
        if get["reason"]:
            for name in ("sop_instance_uid", "path"):
                if get.get(name):
                    out.setdefault(get[name], get["reason"])
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


def _with_cases(images: tuple[ImageResult, ...], path: Path) -> tuple[ImageResult, ...]:
    """The images with the scores that the run's ``studies.csv`` gives their breasts and studies."""
    if not path.is_file():
        return images
    table = read_table(path)
    columns = find_columns(table, STUDY_COLUMNS)
    if "study_instance_uid" not in columns:
        return images
    scores: dict[str, dict[str, float]] = {}
    for line, get in table.rows(columns):
        try:
            found = {side: number(get[side], side) for side in ("study", "L", "R") if get.get(side)}
        except ValueError as error:
            raise LabelError(f"row {line}: {error}", path=path) from error
        scores[get["study_instance_uid"]] = found
    return tuple(
        replace(image, breast_score=of.get(image.laterality), study_score=of.get("study"))
        for image in images
        for of in (scores.get(image.study_instance_uid, {}),)
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
