"""Words about earlier studies, for the PDF and the review page. Pure functions.

They say where findings lie and what scores were, and never what that means for a patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mammoscan.core.domain import LIMITS, Seen
from mammoscan.report.pdf_parts import day

if TYPE_CHECKING:
    from mammoscan.core.domain import Compared, Earlier, EarlierStudy

OTHER_MODEL = "scored by another model or with other settings: its scores must not be compared with today's"
HOW = (
    "Seen before is a finding where the earlier study reported one of the same kind, in an image of the same side and view, in "
    f"the same half of the breast as that view tells it (which is not told within {LIMITS.line:.0f} mm of the line through the "
    f"nipple), with a distance from the nipple that differs by {LIMITS.distance:.0f} mm at most, at a place that lies at most "
    f"{LIMITS.apart:.0f} mm apart, each seen from its nipple, and with a diameter at most {LIMITS.sizes:.0f} times greater or "
    f"smaller; without a pixel spacing a breast counts as {LIMITS.depth:.0f} mm deep. Each finding has one counterpart at most. "
    "The nipple is estimated from the outline of the breast. A finding that was seen before need not be harmless, and a new one "
    "may have been there and not been reported: at most a few regions of an image are. Compare the images themselves."
)


def of_finding(said: Compared, earlier: Earlier) -> str:
    """What is said of a finding: 'seen before on 2024-01-31, score then 0.412 (finding 2, places 4 mm apart)'."""
    date = day(earlier.studies[0].study_date)
    if said.seen is Seen.NOT_COMPARABLE:
        return f"not comparable with {date}: {said.why.meaning if said.why else ''}"
    if said.then is None:
        return f"new: no finding of its kind was reported at its place on {date}"
    then = said.then
    apart = (
        f"places {then.apart:.0f} mm apart" if then.apart_mm else f"places {then.apart:.2f} of the breast's depth apart"
    )
    return f"seen before on {date}, score then {then.malignancy:.3f} (finding {then.number} of that study, {apart})"


def of_breasts(study: EarlierStudy) -> list[tuple[str, str, str]]:
    """Side, score and density of each breast in an earlier study; a density that is estimated says so."""
    return [
        (
            b.laterality.value,
            f"{b.malignancy:.3f}",
            f"{b.density or 'unknown'}{' (estimate)' if b.density and b.estimated else ''}",
        )
        for b in study.breasts
    ]


def none(earlier: Earlier) -> str:
    """Why nothing is said, '' where something is."""
    return f"Earlier studies: {earlier.none.meaning}." if earlier.none else ""


def more(earlier: Earlier) -> str:
    """That there are more than are listed, '' where there are not."""
    return (
        f"{earlier.more} older {'study is' if earlier.more == 1 else 'studies are'} not listed." if earlier.more else ""
    )
