"""Scored images and their marks, by column: what a run or another system says of a million images fits into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscan.audit.lesions import Mark
from mammoscan.core.columns import Made, TextColumn

Floats = NDArray[np.float64]
CLASSES = ("normal", "benign", "malignant")


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


@dataclass(frozen=True, slots=True, eq=False)
class MarkTable(Made[Mark]):
    """The marks of all images, those of an image together, in the order of their table.

    numbers, kinds: text. centres: (n, 2), x and y. boxes: (n, 4), x0, y0, x1, y1, nan where there is none. areas: (n,), nan
    where none is stated. scores: (n,). starts: intp (keys + 1,), where the marks of each key begin.
    """

    numbers: TextColumn
    centres: Floats
    boxes: Floats
    areas: Floats
    scores: Floats
    kinds: TextColumn
    starts: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.scores)

    def made(self, index: int) -> Mark:
        x, y = self.centres[index].tolist()
        x0, y0, x1, y1 = self.boxes[index].tolist()
        area = float(self.areas[index])
        return Mark(
            number=self.numbers[index],
            centre=(x, y),
            box=None if np.isnan(x0) else (x0, y0, x1, y1),
            area=None if np.isnan(area) else area,
            score=float(self.scores[index]),
            kind=self.kinds[index],
        )

    @classmethod
    def of(cls, marks: Sequence[Sequence[Mark]]) -> MarkTable:
        """A table of the marks of each key."""
        flat = [mark for found in marks for mark in found]
        nothing = (np.nan,) * 4
        return cls(
            TextColumn.of(m.number for m in flat),
            np.array([m.centre for m in flat], dtype=np.float64).reshape(-1, 2),
            np.array([nothing if m.box is None else m.box for m in flat], dtype=np.float64).reshape(-1, 4),
            np.array([np.nan if m.area is None else m.area for m in flat], dtype=np.float64),
            np.array([m.score for m in flat], dtype=np.float64),
            TextColumn.of(m.kind for m in flat),
            np.cumsum([0, *map(len, marks)], dtype=np.intp),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ImageTable(Made[ImageResult]):
    """All images of a result, by column; an item is an ``ImageResult``, whose fields these are.

    classes: (n, 3), nan where they are not known. ages, breast_scores, study_scores: (n,), nan where there is none.
    rows: int64 (n,). marks: of all images. mark_keys: intp (n,), whose marks in it an image has, -1 for none.
    """

    ids: TextColumn
    sop_instance_uids: TextColumn
    paths: TextColumn
    patient_ids: TextColumn
    study_instance_uids: TextColumn
    lateralities: TextColumn
    views: TextColumn
    scores: Floats
    classes: Floats
    densities: TextColumn
    ages: Floats
    manufacturers: TextColumn
    years: TextColumn
    folders: TextColumn
    breast_scores: Floats
    study_scores: Floats
    rows: NDArray[np.int64]
    marks: MarkTable
    mark_keys: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.scores)

    def made(self, index: int) -> ImageResult:
        normal, benign, malignant = self.classes[index].tolist()
        start, stop = self.marks_of(index)
        return ImageResult(
            id=self.ids[index],
            sop_instance_uid=self.sop_instance_uids[index],
            path=self.paths[index],
            patient_id=self.patient_ids[index],
            study_instance_uid=self.study_instance_uids[index],
            laterality=self.lateralities[index],
            view=self.views[index],
            score=float(self.scores[index]),
            classes=None if np.isnan(normal) else (normal, benign, malignant),
            density=self.densities[index],
            age=_or_none(self.ages[index]),
            manufacturer=self.manufacturers[index],
            year=self.years[index],
            folder=self.folders[index],
            marks=self.marks[start:stop],
            breast_score=_or_none(self.breast_scores[index]),
            study_score=_or_none(self.study_scores[index]),
            row=int(self.rows[index]),
        )

    def marks_of(self, index: int) -> tuple[int, int]:
        """Where an image's marks begin and end in ``marks``."""
        key = int(self.mark_keys[index])
        return (0, 0) if key < 0 else (int(self.marks.starts[key]), int(self.marks.starts[key + 1]))

    def scores_for(self, level: str) -> Floats:
        """The score, (n,), that stands for each image's part in a case of a level: its breast's or study's where the run gave one."""
        own = {"breast": self.breast_scores, "study": self.study_scores, "patient": self.study_scores}.get(level)
        return self.scores if own is None else np.where(np.isnan(own), self.scores, own)

    def patients(self) -> NDArray[np.int64]:
        """What the bootstrap draws, as a number of each image: its patient, else its study, else itself."""
        patients, studies = self.patient_ids, self.study_instance_uids
        out = len(patients.values) + len(studies.values) + np.arange(len(self))
        out = np.where(studies.filled, len(patients.values) + studies.codes.astype(np.int64), out)
        return np.where(patients.filled, patients.codes.astype(np.int64), out)

    @classmethod
    def of(cls, images: Sequence[ImageResult]) -> ImageTable:
        """A table of given images."""
        if isinstance(images, ImageTable):
            return images

        def text(name: str) -> TextColumn:
            return TextColumn.of(getattr(i, name) for i in images)

        def number(name: str) -> Floats:
            return np.array([np.nan if (v := getattr(i, name)) is None else v for i in images], dtype=np.float64)

        nothing = (np.nan,) * 3
        return cls(
            ids=text("id"),
            sop_instance_uids=text("sop_instance_uid"),
            paths=text("path"),
            patient_ids=text("patient_id"),
            study_instance_uids=text("study_instance_uid"),
            lateralities=text("laterality"),
            views=text("view"),
            scores=number("score"),
            classes=np.array([i.classes or nothing for i in images], dtype=np.float64).reshape(-1, 3),
            densities=text("density"),
            ages=number("age"),
            manufacturers=text("manufacturer"),
            years=text("year"),
            folders=text("folder"),
            breast_scores=number("breast_score"),
            study_scores=number("study_score"),
            rows=np.array([i.row for i in images], dtype=np.int64),
            marks=MarkTable.of([i.marks for i in images]),
            mark_keys=np.arange(len(images)),
        )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
