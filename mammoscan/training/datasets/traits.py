"""What a reader declares of its set: everything that training decides by a set, and never by its name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Readings:
    """That a set's readings of density teach percent density (``dense_fit``).

    weight: of the set's films. cuts: whether they also set the bounds between a, b, c and d.
    """

    weight: float
    cuts: bool = False


@dataclass(frozen=True, slots=True)
class Traits:
    """A set, beyond its films. What their labels and places say themselves, such as whether a set has normal films or
    both benign and malignant lesions, is no trait: it is asked of the films that are there.

    cite: how to name it, '' for its name. terms: on which its images may be used. limits: sentences for the model
    card. classified: how many of a film's candidate regions are classified, the most salient, since the set has
    many films (those that hit a lesion always are); None for all. screening: whether it is an archive of screening,
    labelled by breast: so many films as are asked for are drawn, whole patients, and no random places are taken
    from it. readings: None where its densities teach no percent density. bars: what figures of it should reach,
    by the figure's name without the set's.
    """

    cite: str = ""
    terms: str = "terms of its owner"
    limits: tuple[str, ...] = ()
    classified: int | None = None
    screening: bool = False
    readings: Readings | None = None
    bars: tuple[tuple[str, float], ...] = ()

    def bar(self, figure: str) -> float | None:
        """What a figure should reach; None where nothing is declared."""
        return dict(self.bars).get(figure)
