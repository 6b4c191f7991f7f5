"""The sentences on a model's scores follow from its description and are true of what the code computes."""

import dataclasses
import itertools

import numpy as np
import pytest

from mammoscan.core.domain import Age, AgeSource
from mammoscan.image.features import REGION_FEATURES
from mammoscan.model import bundle, findings, outputs, rule
from mammoscan.model.scores import RegionScore, Score
from tests.report import results


def _score(inputs, weights=None, mean=0.0):
    n = len(inputs)
    return Score(inputs, np.full(n, mean), np.ones(n), np.ones(n) if weights is None else np.array(weights), 0.0)


def _region(inputs):
    return RegionScore(_score(inputs), _score(inputs))


REGION = _region(("linear_lesion", outputs.ORDER, *REGION_FEATURES[:2]))


def test_the_bundled_model_says_its_three_scales_and_what_each_follows():
    finding, image, breast, scales = bundle.load(None).identity.scoring
    assert "the network says" in finding
    assert f"{len(REGION_FEATURES)} measured features" in finding
    assert "rises with the highest score among its 10 most salient regions" in image
    assert "rises with the highest score among its images and the patient's age" in breast
    assert "unknown as 60" in breast
    assert "three scales" in scales


def test_a_model_without_scores_of_its_own_says_the_highest():
    _, image, breast, scales = rule.sentences(REGION, None, None)
    assert "that of its highest region" in image
    assert "that of its highest image" in breast
    assert "one scale" in scales


@pytest.mark.parametrize(
    ("image", "breast", "words"),
    [
        (_score(("highest",)), None, ("two scales (findings, and images and breasts)", "an image may score")),
        (None, _score(("highest",)), ("two scales (findings and images, and breasts)", "a breast lower or higher")),
    ],
)
def test_a_score_that_a_model_lacks_has_no_scale(image, breast, words):
    said = rule.sentences(REGION, image, breast)[-1]
    assert all(word in said for word in words)
    assert ("an image may" in said) == (image is not None)
    assert ("a breast lower" in said) == (breast is not None)


def test_only_inputs_that_a_score_has_are_named():
    assert rule.sentences(_region(("conv5_lesion",)), None, None)[0].endswith(
        "Each is a logistic regression on what the network says of the region's crop."
    )
    assert "1 measured feature." in rule.sentences(_region(REGION_FEATURES[:1]), None, None)[0]
    without = rule.sentences(REGION, None, _score(("highest",)))[2]
    assert "patient's age" not in without


def test_a_score_that_falls_with_an_input_says_so():
    said = rule.sentences(REGION, None, _score(("highest", "age_decades"), (1.0, -0.5)))[2]
    assert "it rises with the highest score among its images and falls with the patient's age" in said


def test_every_input_of_an_image_and_a_breast_has_words():
    for inputs, place in ((outputs.IMAGE_INPUTS, 1), (outputs.BREAST_INPUTS, 2)):
        for number in range(1, len(inputs) + 1):
            for some in itertools.combinations(inputs, number):
                scores = [None, None]
                scores[place - 1] = _score(some)
                assert "it rises with the" in rule.sentences(REGION, *scores)[place]


def test_what_is_said_of_a_breast_is_what_is_computed():
    """Higher with its highest image and with the age, the lower images without a part; 60 years where it is unknown."""
    score = bundle.load(None).breast
    h = results.four_views()[0]

    def of(first, second, years):
        images = [
            dataclasses.replace(
                results.prediction(h), scores=dataclasses.replace(results.prediction(h).scores, malignancy=m)
            )
            for m in (first, second)
        ]
        age = None if years is None else Age(years, AgeSource.PATIENT_AGE)
        return findings.breasts(images, age, score)[0].malignancy

    assert of(0.44, 0.36, 70) > of(0.30, 0.36, 70)
    assert of(0.44, 0.36, 70) > of(0.44, 0.36, 50)
    assert of(0.44, 0.36, 70) == of(0.44, 0.10, 70)
    assert of(0.44, 0.36, 120) == of(0.44, 0.36, 90)
    assert of(0.44, 0.36, None) == pytest.approx(of(0.44, 0.36, 60), abs=2e-3)
    assert of(0.44, 0.36, 66) > 0.44  # a scale of its own: higher than every image
