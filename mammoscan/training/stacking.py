"""What the heads say becomes scores: of regions, of images by their regions, of breasts by their images.

Scores are logistic regressions fitted on what heads said of patients that they had not seen (Wolpert, Neural Netw
5 (1992) 241), and calibrate by being fitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mammoscan.image.features import REGION_FEATURES
from mammoscan.model import outputs
from mammoscan.model.scores import RegionScore, Score
from mammoscan.model.terms import CLASSES, MALIGNANT, softmax
from mammoscan.training import clinical, linear
from mammoscan.training.heads import two_sided

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mammoscan.training.examples import Examples

REGION_STRENGTH = 0.1
SCORE_STRENGTH = 1.0
# What the score of a region is fitted on, by name; the ablation shows them side by side.
# First those that are known of every fold, then those of the validation part alone.
_LINEAR = (*outputs.LINEAR_INPUTS, outputs.ORDER)
_BOTH = (*_LINEAR, *REGION_FEATURES)
VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear": (_LINEAR, ()),
    "linear, without the order": (outputs.LINEAR_INPUTS, ()),
    "linear and handcrafted": (_BOTH, ()),
    "conv5": ((), outputs.CONV5_INPUTS),
    "both": (_LINEAR, outputs.CONV5_INPUTS),
    "both and handcrafted": (_BOTH, outputs.CONV5_INPUTS),
}


def searched_rows(examples: Examples) -> NDArray[np.bool_]:
    """The candidates by which an image is judged: those that are classified whether or not they hit a lesion."""
    return np.asarray((examples.kind == "candidate") & (examples.rank < examples.judged[examples.film]))


def places(examples: Examples) -> NDArray[np.float64]:
    """Every row's place in its film's order of saliency, 0 the first; nan where it was not found by it."""
    return np.where(examples.kind == "candidate", examples.rank, np.nan)


def image_rows(
    examples: Examples, odds: NDArray[np.float64], films: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(film, inputs of its score) of the searched films that have regions."""
    rows = np.flatnonzero(searched_rows(examples) & films[examples.film])
    of_film = examples.film[rows]
    found = np.unique(of_film)
    inputs = [outputs.image_inputs(odds[rows[of_film == one]]) for one in found]
    return found, np.array(inputs).reshape(len(found), len(outputs.IMAGE_INPUTS))


def breast_rows(
    examples: Examples, image: NDArray[np.float64], films: NDArray[np.bool_]
) -> list[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """(films, inputs of the score) of every breast with a scored image; clinical data of sets' own come last."""
    asked = clinical.of(examples)
    groups: dict[tuple[str, str], list[int]] = {}
    for index in np.flatnonzero(films & np.isfinite(image)).tolist():
        groups.setdefault((str(examples.patient[index]), str(examples.side[index])), []).append(index)
    out = []
    for _, members in sorted(groups.items()):
        ages = examples.age[members]
        age = float(np.nanmean(ages)) if np.isfinite(ages).any() else None
        x = outputs.breast_inputs(image[members].tolist(), age)
        out.append((np.array(members, np.intp), np.append(x, asked.values[members[0]])))
    return out


def screening_sets(examples: Examples) -> list[str]:
    """Sets with both cancers and films without a lesion: what scores of whole images are fitted and judged on."""
    return [
        str(s)
        for s in np.unique(examples.source)
        if (examples.clear & (examples.source == s)).any()
        and ((examples.film_label == "malignant") & (examples.source == s)).any()
    ]


def columns(names: Sequence[str]) -> NDArray[np.intp]:
    """Where inputs of a region's score stand among ``outputs.REGION_INPUTS``."""
    return np.array([outputs.REGION_INPUTS.index(name) for name in names], np.intp)


def malignant(score: RegionScore, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log odds (n,) of malignant against everything else from all inputs (n, len(outputs.REGION_INPUTS))."""
    return outputs.malignant_odds(score.logits(inputs[:, columns(score.inputs)]))


def region_score(
    base: tuple[str, ...], more: tuple[str, ...], inputs: NDArray[np.float64], examples: Examples,
    rows: NDArray[np.intp], held: NDArray[np.intp], *, level: bool = False,
) -> RegionScore:  # fmt: skip
    """Lesion or not; malignant or benign from the lesions of sets that have both.

    inputs: (n, len(REGION_INPUTS)). base: those to fit on ``rows``. more: those to add, fitted on ``held``.
    level: fit to the level of ``held`` even if there are none to add.
    """

    def fitted(worse: int) -> Score:
        on, of = (_taught(examples, some, worse) for some in (rows, held))
        score = None
        if base:
            score = linear.fit_score(
                base, inputs[np.ix_(on, columns(base))], examples.label[on] >= worse, np.ones(len(on)),
                strength=REGION_STRENGTH,
            )  # fmt: skip
        if score is not None and not more and not level:
            return score
        truth, x = examples.label[of] >= worse, inputs[np.ix_(of, columns(more))]
        if score is None:
            return linear.fit_score(more, x, truth, np.ones(len(of)), strength=REGION_STRENGTH)
        return linear.extended(score, more, inputs[np.ix_(of, columns(base))], x, truth, strength=REGION_STRENGTH)

    return RegionScore(fitted(1), fitted(MALIGNANT))


def _taught(examples: Examples, rows: NDArray[np.intp], worse: int) -> NDArray[np.intp]:
    """The rows that teach what is at least as bad as a class: for malignant, lesions of sets that have both."""
    if worse < MALIGNANT:
        return rows
    lesions = rows[examples.label[rows] > 0]
    return np.asarray(lesions[two_sided(examples, lesions)])


def loss(
    base: tuple[str, ...], more: tuple[str, ...], inputs: NDArray[np.float64], examples: Examples,
    rows: NDArray[np.intp], held: NDArray[np.intp], seed: int,
) -> float:  # fmt: skip
    """Log loss of a region's class on ``held``, which nothing of its score has seen.

    What is fitted on ``held`` itself is fitted in three parts by patient; every variant is fitted to its level,
    else those that use conv5 would win by that alone.
    """
    patients, index = np.unique(examples.group()[held], return_inverse=True)
    part = (np.random.default_rng(seed).permutation(len(patients)) % 3)[index]
    label = examples.label[held]
    p = np.tile(np.bincount(label, minlength=len(CLASSES)) / len(label), (len(label), 1))
    for number in range(3):
        rest = part != number
        if set(label[rest].tolist()) == set(range(len(CLASSES))):
            score = region_score(base, more, inputs, examples, rows, held[rest], level=True)
            p[~rest] = softmax(score.logits(inputs[np.ix_(held[~rest], columns(score.inputs))]))
    return float(-np.mean(np.log(np.clip(p[np.arange(len(label)), label], 1e-7, 1))))


def image_score(examples: Examples, odds: NDArray[np.float64], films: NDArray[np.bool_]) -> Score | None:
    """That a film shows a cancer, from its regions' log odds; None where the films do not have both kinds."""
    known = films & np.isin(examples.source, screening_sets(examples)) & (examples.film_label != "")
    of_film, x = image_rows(examples, odds, known)
    truth = examples.film_label[of_film] == "malignant"
    if truth.all() or not truth.any():
        return None
    weight = linear.even(examples.source[of_film])
    return linear.fit_score(outputs.IMAGE_INPUTS, x, truth, weight, strength=SCORE_STRENGTH)


def breast_score(examples: Examples, image: NDArray[np.float64], films: NDArray[np.bool_]) -> Score | None:
    """That a breast has a cancer, from its films' log odds and the age; None where there are not both kinds."""
    known = films & np.isin(examples.source, screening_sets(examples)) & (examples.film_label != "")
    found = breast_rows(examples, image, known)
    truth = np.array([bool((examples.film_label[members] == "malignant").any()) for members, _ in found])
    if not len(truth) or truth.all() or not truth.any():
        return None
    weight = linear.even(np.array([str(examples.source[members[0]]) for members, _ in found]))
    return linear.fit_score(
        (*outputs.BREAST_INPUTS, *clinical.of(examples).inputs),
        np.stack([x for _, x in found]),
        truth,
        weight,
        strength=SCORE_STRENGTH,
    )
