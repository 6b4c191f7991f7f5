"""From a region's outputs to its score, from regions to images, from images to breasts. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mammoscan.image.features import REGION_FEATURES
from mammoscan.model.terms import MALIGNANT, log_odds, softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Of each part of the network the log odds of any lesion against normal tissue, and of malignant against benign.
_SAID = ("lesion", "pathology")
CONV5_INPUTS = tuple(f"conv5_{name}" for name in _SAID)
LINEAR_INPUTS = tuple(f"linear_{name}" for name in _SAID)
NETWORK_INPUTS = (*CONV5_INPUTS, *LINEAR_INPUTS)
# The logarithm of a region's place in its image's order of saliency, 1 for the most salient: the ranking has seen
# what is around a region and how it was found, which the network has not.
ORDER = "saliency_order"
REGION_INPUTS = (*NETWORK_INPUTS, ORDER, *REGION_FEATURES)
IMAGE_INPUTS = ("highest",)
# An image is judged by so many of its regions, the most salient, in training as in use.
JUDGED = 10
OLDEST = 90.0  # years: higher ages count as this, as they do where identities are removed (``deidentify``)
_MIDDLE = 55.0  # years: from it ages are counted, in decades
BREAST_INPUTS = ("highest", "age_decades")


def region_inputs(
    conv5: NDArray[np.floating], linear: NDArray[np.floating], rank: NDArray[np.floating],
    features: NDArray[np.floating],
) -> NDArray[np.float64]:  # fmt: skip
    """Inputs (n, len(REGION_INPUTS)) of a region's score from class logits (n, 3), ranks (n,) and features.

    rank: 0 for the most salient region of an image; nan where there is no such order. nan for the logits of a
    head that the network does not have.
    """
    columns = []
    for logits in (conv5, linear):
        p = softmax(logits) if len(logits) else np.zeros((0, 3))
        columns += [-log_odds(p[:, 0]), pathology_odds(logits)]
    return np.asarray(np.column_stack([*columns, np.log1p(rank), features]), np.float64)


def class_logits(lesion: NDArray[np.floating], pathology: NDArray[np.floating]) -> NDArray[np.float64]:
    """Class logits (n, 3) from two log odds (n,): lesion against normal, malignant against benign if it is one.

    They are apart because sets without benign cases teach the first alone: in one model of three classes
    the look of such a set would count as malignant.
    """
    found, worse = (np.asarray(odds, np.float64) for odds in (lesion, pathology))
    return np.column_stack([np.zeros(len(found)), found - np.logaddexp(0, worse), found - np.logaddexp(0, -worse)])


def head_odds(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log odds (n,) of the second class from a head of two classes, (n, 2)."""
    return np.asarray(logits[:, 1] - logits[:, 0], np.float64)


def lesion_odds(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log odds (n,) of any lesion from class logits (n, 3)."""
    with np.errstate(invalid="ignore"):  # nan where nothing is known
        return np.asarray(np.logaddexp(logits[:, 1], logits[:, MALIGNANT]) - logits[:, 0], np.float64)


def pathology_odds(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log odds (n,) of malignant against benign from class logits (n, 3)."""
    return np.asarray(logits[:, MALIGNANT] - logits[:, 1], np.float64)


def malignant_odds(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log odds (n,) of malignant against everything else from class logits (n, 3)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(logits[:, MALIGNANT] - np.logaddexp(logits[:, 0], logits[:, 1]), np.float64)


def image_inputs(odds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Inputs (len(IMAGE_INPUTS),) of an image's score from its regions' log odds (n >= 1,), most salient first.

    Only the highest: with the mean of all or of three beside it, sets without a signal in their regions set
    the weights, and cancers were ranked worse in the sets that have one.
    """
    return np.array([np.asarray(odds, np.float64)[:JUDGED].max()])


def breast_inputs(odds: Sequence[float] | NDArray[np.floating], age: float | None) -> NDArray[np.float64]:
    """Inputs (len(BREAST_INPUTS),) of a breast's score from its images' log odds and the age in years."""
    values = np.asarray(odds, np.float64)
    return np.array([values.max(), np.nan if age is None else (min(age, OLDEST) - _MIDDLE) / 10.0])


def age_in_years(decades: float) -> float:
    """The age of a breast's input ``age_decades``."""
    return decades * 10.0 + _MIDDLE
