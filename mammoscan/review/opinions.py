"""What readers said on the review page, as its export holds it: rows, and which of them are labels. Pure.

An export is one table that ``mammoscan audit --labels`` and ``mammoscan train`` (as a manifest) read as it is: a row whose
``label`` is filled in is truth that a reader stated about an image or a place on it; the others are opinions, which both
leave out. The same rule stands in ``static/feedback.js``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan.core import tablefile
from mammoscan.core.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    Box = tuple[float, float, float, float]

COLUMNS = (
    "path", "patient", "laterality", "view", "label", "x0", "y0", "x1", "y1", "kind", "density", "age", "sop_instance_uid",
    "study_instance_uid", "reader", "about", "decision", "stated", "finding_number", "tracking_uid", "score", "shape", "note",
    "model_sha256", "written",
)  # fmt: skip
FINDING, BREAST, MISSED = "finding", "breast", "missed"
AGREE, DISAGREE, NONE = "agree", "disagree", "none"
NORMAL, BENIGN, MALIGNANT = CLASSES = ("normal", "benign", "malignant")
_WORDS = {
    "about": {FINDING, BREAST, MISSED},
    "decision": {AGREE, DISAGREE, MISSED, NONE},
    "stated": {"", *CLASSES},
    "label": {"", *CLASSES},
}
_NEEDED = ("sop_instance_uid", "study_instance_uid", "reader")
_CORNERS = ("x0", "y0", "x1", "y1")


@dataclass(frozen=True, slots=True)
class Opinion:
    """One row: what a reader said of a finding, a place that was missed, or a breast as one of its images shows it.

    cells: by column. box: of the place in source pixels, None for a breast.
    """

    cells: Mapping[str, str]
    box: Box | None

    @property
    def about(self) -> str:
        return self.cells["about"]

    @property
    def reader(self) -> str:
        return self.cells["reader"]

    @property
    def image(self) -> str:
        return self.cells["sop_instance_uid"]

    @property
    def stated(self) -> str:
        return self.cells["stated"]

    @property
    def decision(self) -> str:
        return self.cells["decision"]

    @property
    def is_lesion(self) -> bool:
        """Whether the reader stated a lesion at this place."""
        return self.about != BREAST and self.stated in {BENIGN, MALIGNANT}


def read(path: Path) -> list[Opinion]:
    """The rows of an export.

    Raises
    ------
    LabelError
        With the row, where it is none.
    """
    table = tablefile.read_table(path)
    if missing := [name for name in COLUMNS if name not in table.names]:
        raise LabelError(
            f"columns missing: {', '.join(missing)}", path=path, remedy="give a file that the review page exported"
        )
    return [_opinion(path, number, cells) for number, cells in table.rows()]


def _opinion(path: Path, number: int, cells: Mapping[str, str]) -> Opinion:
    def wrong(cause: str) -> LabelError:
        return LabelError(f"row {number}: {cause}", path=path, remedy="export it again, or take the row out")

    for name, words in _WORDS.items():
        if cells[name] not in words:
            raise wrong(f"{name} {cells[name]!r} is none of {', '.join(sorted(words - {''}))}")
    for name in _NEEDED:
        if not cells[name]:
            raise wrong(f"{name} is empty")
    box: Box | None = None
    if cells["about"] != BREAST:
        try:
            x0, y0, x1, y1 = (tablefile.number(cells[name], name) for name in _CORNERS)
        except ValueError as error:
            raise wrong(str(error)) from None
        if not (x0 < x1 and y0 < y1):
            raise wrong("the box needs x0 < x1 and y0 < y1")
        box = x0, y0, x1, y1
    return Opinion({name: cells[name] for name in COLUMNS}, box)


def labelled(opinions: Iterable[Opinion]) -> list[Opinion]:
    """One reader's rows about one image with the label of each: what is truth about the image, '' for all else.

    Lesions with their places; where there is none, what was stated of the breast. Nothing where a breast is stated normal
    that has a lesion.
    """
    rows = list(opinions)
    lesions = [row for row in rows if row.is_lesion]
    contradicted = lesions and any(row.about == BREAST and row.stated == NORMAL for row in rows)
    out = []
    for row in rows:
        truth = row.is_lesion if row.about != BREAST else not lesions
        out.append(Opinion({**row.cells, "label": row.stated if truth and not contradicted else ""}, row.box))
    return out
