"""What every reader gives and training takes: one labelled image, with what is known of its lesions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
from skimage.draw import polygon

from mammoscan.core.errors import InputError, LabelError
from mammoscan.model.terms import KINDS
from mammoscan.training.datasets import images
from mammoscan.training.datasets.traits import Traits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.core.domain import Header, Image, Spacing

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the image
Points = tuple[tuple[float, float], ...]

NORMAL, BENIGN, MALIGNANT = "normal", "benign", "malignant"
LABELS = (NORMAL, BENIGN, MALIGNANT)
MASS, CALCIFICATION, DISTORTION, ASYMMETRY = KINDS


@dataclass(frozen=True, slots=True)
class Lesion:
    """One located lesion, in pixels of the film's image (corner convention of ``mammoscan.core.domain``).

    label: 'benign' or 'malignant', '' where the set doesn't say for sure which it is.
    kind: one of KINDS, '' where unknown. contour: its outline where the set has one, else ().
    assessment: BI-RADS category as written ('4a'), '' where unknown. subtlety: DDSM's 1 (subtle) to
    5 (obvious), None where unknown. size_mm: the box's longer side, None where no pixel size is known.
    """

    label: str
    kind: str
    box: Box
    contour: Points = ()
    assessment: str = ""
    subtlety: int | None = None
    size_mm: float | None = None


@dataclass(frozen=True, slots=True)
class Film:
    """One labelled image.

    source: the set. name: unique in it. patient: unique across the sets, the same for the same woman
    wherever a set comes in two forms. label: the worst that is known of the whole image ('normal',
    'benign', 'malignant', or '' for nothing). density: 'a' to 'd', mini-MIAS's 'F', 'G' or 'D', or ''.
    table, row: where its first label stands. rows: its rows as read. marked: what ``lesions`` gives
    unless a reader draws it from mask images. traits: those of its set. clinical: what the set says of the patient in
    columns of its owner's, by heading; numbers with a decimal point. No entry for what it does not ask.
    """

    source: str
    name: str
    patient: str
    path: Path
    header: Header
    label: str
    density: str
    table: Path
    row: int
    rows: tuple[Mapping[str, str], ...] = ()
    marked: tuple[Lesion, ...] = ()
    traits: Traits = field(default_factory=Traits)
    clinical: Mapping[str, str] = field(default_factory=dict)

    def image(self) -> Image:
        """The pixels, 0 to 1.

        Raises
        ------
        LabelError
            With the row, when the file cannot be read.
        """
        try:
            return images.read(self.header)
        except InputError as error:
            raise LabelError(
                f"the image cannot be read ({error.message}); row {self.row} of {self.table.name} names it",
                path=self.path,
                remedy="fetch the file again, or take the row out",
            ) from error

    def lesions(self) -> tuple[Lesion, ...]:
        """Everything located, also what is of uncertain class."""
        return self.marked

    def findings(self) -> tuple[tuple[str, Box], ...]:
        """('benign' or 'malignant', box) of every located lesion whose class is certain."""
        return tuple((lesion.label, lesion.box) for lesion in self.lesions() if lesion.label)

    def occupied(self) -> tuple[Box, ...]:
        """Boxes where a lesion is or may be: no place for a normal example."""
        return tuple(lesion.box for lesion in self.lesions())

    def is_normal(self) -> bool:
        """Whether the whole film is known to hold no malignancy and no lesion."""
        return self.label == NORMAL and not self.lesions()

    def shows_density(self) -> bool:
        """Whether the share of bright pixels can be held against the density that was read."""
        return True

    def outlines(self) -> tuple[Points, ...]:
        """Outlines of the lesions, where the set has them."""
        return tuple(lesion.contour for lesion in self.lesions() if lesion.contour)

    def lesion_mask(self) -> NDArray[np.bool_] | None:
        """The outlines filled: bool (rows, columns); None where the set has none for this film."""
        outlines = self.outlines()
        if not outlines:
            return None
        mask = np.zeros((self.header.rows, self.header.columns), bool)
        for points in outlines:
            # A pixel belongs to the outline when its centre lies in it or on it.
            columns, rows = np.asarray(points).T - 0.5
            mask[polygon(rows, columns, mask.shape)] = True
        return mask


def of_sets(films: Iterable[Film]) -> dict[str, Traits]:
    """Traits by set, in the order of names.

    Raises
    ------
    ValueError
        When two readers of one set do not declare the same.
    """
    found: dict[str, Traits] = {}
    for film in films:
        if found.setdefault(film.source, film.traits) != film.traits:
            raise ValueError(f"two kinds of {film.source}")
    return dict(sorted(found.items()))


def worst(labels: Sequence[str]) -> str:
    """The most severe of some labels, '' where there is none."""
    return max(labels, key=(("", *LABELS).index), default="")


def longest_mm(box: Box, spacing: Spacing | None) -> float | None:
    """Longer side of a box in millimetres."""
    if spacing is None:
        return None
    return max((box[2] - box[0]) * spacing.column_mm, (box[3] - box[1]) * spacing.row_mm)


def box_of(points: Points) -> Box:
    """Smallest box around points, at least a pixel wide and high."""
    xs, ys = zip(*points, strict=True)
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    dx, dy = max(0.0, 1.0 - (x1 - x0)) / 2, max(0.0, 1.0 - (y1 - y0)) / 2
    return (x0 - dx, y0 - dy, x1 + dx, y1 + dy)


def outside(box: Box, header: Header, *, slack: float) -> bool:
    """Whether a box reaches more than ``slack`` pixels over the edge of its image."""
    x0, y0, x1, y1 = box
    return x0 < -slack or y0 < -slack or x1 > header.columns + slack or y1 > header.rows + slack


def mask_parts(mask: NDArray[np.bool_], *, smallest: int) -> tuple[tuple[Box, Points], ...]:
    """Box and outer contour of every connected part of a mask with at least ``smallest`` pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    out = []
    for part in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[part])
        if area < smallest:
            continue
        inside = (labels[y : y + h, x : x + w] == part).astype(np.uint8)
        outer = max(cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
        points = tuple((float(px + x) + 0.5, float(py + y) + 0.5) for px, py in outer[:, 0])
        out.append(((float(x), float(y), float(x + w), float(y + h)), points))
    return tuple(out)
