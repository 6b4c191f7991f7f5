"""Where the nipple lies: the point of the skin that is farthest from the chest wall. Pure functions.

That is the nipple where it is seen in profile, and near it where it is not: a landmark from which distances are measured
in two images of one view, as readers do. It is estimated from the outline of the breast alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mammoscan.core.domain import LIMITS, Laterality, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.core.domain import Finding, Header, Prepared, Scored

FARTHEST_MM = 1.0  # skin that is this much nearer to the chest wall counts as farthest too
WIDEST = 0.35  # share of the breast's height at most that may be farthest: else the outline is cut off or too flat
_FROM_ABOVE = (View.CC, View.XCC, View.XCCL, View.XCCM)
MARGIN = 0.04  # share of the breast's height at both ends where no nipple is


def place(prepared: Prepared) -> tuple[float, float] | None:
    """The nipple's place (x, y) in source pixels, None where it cannot be told.

    Nothing is said where the view is not known, where the picture ends before the skin does, and where the outline has no tip.
    """
    if prepared.header.view is View.UNKNOWN or prepared.header.partial_view:
        return None
    geometry = prepared.geometry
    found = tip(prepared.breast | prepared.pectoral, geometry.mm)
    if found is None:
        return None
    x, y = geometry.to_source(np.array([found]))[0].tolist()
    # The chest wall is at the left of the working image, also where the source was mirrored.
    left = geometry.source_width - x if geometry.flipped else x
    reach = FARTHEST_MM / geometry.mm / geometry.scale_x
    return (x, y) if left < geometry.source_width - reach else None


def tip(breast: NDArray[np.bool_], mm: float) -> tuple[float, float] | None:
    """The point (x, y) of a breast that is farthest from the left edge, None where it has no tip.

    breast: bool (h, w), the chest wall at the left. mm: size of a pixel.
    """
    rows = np.flatnonzero(breast.any(axis=1))
    if not rows.size:
        return None
    skin = breast.shape[1] - np.argmax(breast[:, ::-1], axis=1)  # column after the last of the breast
    skin = np.where(breast.any(axis=1), skin, 0)
    farthest = np.flatnonzero(skin >= skin.max() - max(1.0, FARTHEST_MM / mm))
    height = rows[-1] + 1 - rows[0]
    middle = float(np.median(farthest)) + 0.5
    if farthest[-1] + 1 - farthest[0] > WIDEST * height:
        return None
    if not MARGIN * height < middle - rows[0] < (1.0 - MARGIN) * height:
        return None
    return float(skin.max()), middle


# --------------------------------------------------------------------------- places of findings


def depth(p: Scored) -> float | None:
    """How deep a breast is, from the nipple to the chest wall, in columns of the source; None without a nipple."""
    if p.nipple is None:
        return None
    g = p.geometry
    deep = (g.source_width - p.nipple[0] if g.flipped else p.nipple[0]) - g.x0
    return deep if deep > 0 else None


def seen_from(p: Scored, finding: Finding) -> tuple[float, float] | None:
    """Where a finding's centre lies as seen from the nipple: towards the chest wall and down, in columns of the source."""
    if p.nipple is None:
        return None
    inwards = p.nipple[0] - finding.region.centre[0]
    below = (finding.region.centre[1] - p.nipple[1]) * aspect(p.header)
    return (-inwards if p.geometry.flipped else inwards), below


def distance_mm(p: Scored, finding: Finding) -> float | None:
    """How far a finding's centre lies from the nipple in mm, None where nipple or spacing are not known."""
    place, spacing = seen_from(p, finding), p.header.spacing
    return None if place is None or spacing is None else math.hypot(*place) * spacing.column_mm


def half(p: Scored, finding: Finding) -> str:
    """Which half of the breast a finding lies in as far as the view tells: inner, outer, upper or lower; '' where it does not.

    Nearer than ``LIMITS.line`` to the line through the nipple it lies in neither. That line is horizontal here, which in an
    oblique view is not quite that of the anatomy.
    """
    place, deep, lower = seen_from(p, finding), depth(p), down(p.header)
    if place is None or deep is None:
        return ""
    unit = p.header.spacing.column_mm if p.header.spacing else LIMITS.depth / deep
    if abs(place[1]) * unit < LIMITS.line:
        return "central"
    medial = {Laterality.LEFT: "R", Laterality.RIGHT: "L"}.get(p.header.laterality, "")
    words = {"F": ("upper", "lower"), "H": ("lower", "upper")}
    if medial:
        words |= {medial: ("outer", "inner"), p.header.laterality.value: ("inner", "outer")}
    return words.get(lower, ("", ""))[place[1] > 0]


def aspect(header: Header) -> float:
    """Height of a pixel over its width."""
    return header.spacing.row_mm / header.spacing.column_mm if header.spacing else 1.0


def down(header: Header) -> str:
    """Where the lower edge of a picture points to: as the header says, else as the view is stored by the standard's custom."""
    if len(header.patient_orientation) == 2 and header.patient_orientation[1]:
        return header.patient_orientation[1][:1]
    if header.view.shows_pectoral_muscle:
        return "F"
    return (
        {Laterality.LEFT: "R", Laterality.RIGHT: "L"}.get(header.laterality, "") if header.view in _FROM_ABOVE else ""
    )
