"""Words of the PDF: names, sides, views and densities as people read them. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mammoscan.core.domain import DensitySource, Laterality, Patient, Sex, View

if TYPE_CHECKING:
    from mammoscan.core.domain import Cost, Header, PointCost, Prediction

SIDES = {
    Laterality.LEFT: "left",
    Laterality.RIGHT: "right",
    Laterality.BOTH: "both",
    Laterality.UNKNOWN: "side unknown",
}
SEXES = {Sex.FEMALE: "female", Sex.MALE: "male", Sex.OTHER: "other", Sex.UNKNOWN: "unknown"}
DENSITY_SOURCES = {
    DensitySource.TABLE: "reading, from the user's table",
    DensitySource.REPORT: "from a structured report of the study",
    DensitySource.PRIVATE: "from the maker's private attribute",
    DensitySource.ESTIMATE: "estimate from the pixels, no reading",
    DensitySource.NONE: "no source",
}


def person(name: str | Patient) -> str:
    """A person name as people read it: 'Family, Given (other scripts)' (PS3.5 6.2.1); 'unknown' if empty.

    Groups (alphabetic, ideographic, phonetic) are separated by '=', components by '^': family,
    given, middle, prefix, suffix.
    """
    groups = []
    for group in (name.name if isinstance(name, Patient) else name).split("="):
        family, *rest = (part.strip() for part in group.split("^"))
        given = " ".join(part for part in rest if part)
        if text := ", ".join(part for part in (family, given) if part):
            groups.append(text)
    if not groups:
        return "unknown"
    return groups[0] if len(groups) == 1 else f"{groups[0]} ({'; '.join(groups[1:])})"


def view_name(header: Header) -> str:
    """'left MLO', with modifiers; unknown shows as such."""
    view = header.view.value if header.view is not View.UNKNOWN else "view unknown"
    side = SIDES[header.laterality]
    return f"{side} {view}" + "".join(f", {m}" for m in header.view_modifiers)


def density(p: Prediction) -> str:
    """Density with its source, an estimate marked as such."""
    if p.density.source is DensitySource.NONE:
        return "unknown"
    return f"{p.density.density.value} ({DENSITY_SOURCES[p.density.source]})"


def cost(cost: PointCost) -> str:
    """What an operating point costs: 'flags 10 of 100 healthy films, finds 44 of 100 films with cancer; ...'."""
    said = f"{_flags(cost.image, 'films')}; {_flags(cost.breast, 'breasts')}"
    return f"{said} (counted on {cost.counted_on})" if cost.counted_on else said


def _flags(cost: Cost, unit: str) -> str:
    def of_100(share: float | None) -> str:
        return "an unknown number" if share is None else f"{100 * share:.0f}"

    flagged = of_100(None if cost.specificity is None else 1 - cost.specificity)
    return f"flags {flagged} of 100 healthy {unit}, finds {of_100(cost.sensitivity)} of 100 {unit} with cancer"
