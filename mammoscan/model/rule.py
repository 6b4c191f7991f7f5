"""How a model's scores come about, in sentences for the reports: from its own description. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mammoscan.core.clinical import PREFIX, column_of
from mammoscan.image.features import REGION_FEATURES
from mammoscan.model.outputs import JUDGED, NETWORK_INPUTS, OLDEST, ORDER, age_in_years

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mammoscan.model.scores import RegionScore, Score

HIGHEST, AGE = "highest", "age_decades"


def sentences(region: RegionScore, image: Score | None, breast: Score | None) -> tuple[str, ...]:
    """How findings, images, breasts and studies are scored, and on how many scales. image, breast: as in ``Bundle``."""
    return (_of_findings(region), _of_images(image), _of_breasts(breast), _of_scales(image, breast))


def _of_findings(region: RegionScore) -> str:
    return (
        "A finding's score is the product of two probabilities, that the region is a lesion and that a lesion is "
        f"malignant. Each is a logistic regression on {_and(_region_inputs(region.inputs))}."
    )


def _region_inputs(inputs: Sequence[str]) -> list[str]:
    measured = sum(name in REGION_FEATURES for name in inputs)
    parts = (
        ("what the network says of the region's crop", any(name in NETWORK_INPUTS for name in inputs)),
        ("its place in the image's order of saliency", ORDER in inputs),
        (f"{measured} measured feature{'s' * (measured != 1)}", measured > 0),
    )
    return [words for words, used in parts if used] or ["nothing that differs between regions"]


def _of_images(score: Score | None) -> str:
    none = "An image without a candidate region scores 0."
    if score is None:
        return f"An image's score is that of its highest region. {none}"
    return (
        "An image's score is a logistic regression of its own, fitted to whether a film shows a cancer; "
        f"{_follows(score, {HIGHEST: f'the highest score among its {JUDGED} most salient regions'})}. {none}"
    )


def _of_breasts(score: Score | None) -> str:
    study = "The study's score is that of its highest breast."
    if score is None:
        return f"A breast's score is that of its highest image. {study}"
    said = _follows(score, {HIGHEST: "the highest score among its images", AGE: "the patient's age"})
    if AGE in score.inputs:
        mean = age_in_years(float(score.mean[score.inputs.index(AGE)]))
        said += f" (above {OLDEST:.0f} years it counts as {OLDEST:.0f}, unknown as {mean:.0f})"
    if told := list(dict.fromkeys(column_of(name) for name in score.inputs if name.startswith(PREFIX))):
        said += f", and it weighs {_and(told)} (missing is a state of its own)"
    return (
        "A breast's score is a logistic regression of its own, fitted to whether a breast has a cancer; "
        f"{said}. {study}"
    )


def _follows(score: Score, words: dict[str, str]) -> str:
    """'it rises with the highest score among its images and falls with the patient's age'."""
    ways = {"rises": 1, "falls": -1}
    weights = dict(zip(score.inputs, score.weight.tolist(), strict=True))
    parts = []
    for way, sign in ways.items():
        names = [words[n] for n, w in weights.items() if n in words and w * sign > 0]
        if names:
            parts.append(f"{way} with {_and(names)}")
    return "it " + (_and(parts) or "is the same for all")


def _of_scales(image: Score | None, breast: Score | None) -> str:
    if image is None and breast is None:
        return "Findings, images and breasts are on one scale."
    own = ["findings", *(["images"] if image else []), *(["breasts"] if breast else [])]
    scales = {2: "two", 3: "three"}[len(own)]
    if len(own) == 3:
        whose = "findings, images and breasts"
    else:
        whose = "findings and images, and breasts" if breast else "findings, and images and breasts"
    may = [
        *(["an image may score lower or higher than its highest finding"] if image else []),
        *(["a breast lower or higher than each of its images"] if breast else []),
    ]
    return (
        f"There are {scales} scales ({whose}), since each of these scores was fitted to a question of its own: the same "
        f"number says something else on each, so that {_and(may)}. Compare a score with the operating point of its own "
        "scale alone."
    )


def _and(words: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])
