"""Columns of one's own in a training: one that matters and one that does not, fitted inside folds, through the real fits."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mammoscan.core.clinical import Column
from mammoscan.core.errors import LabelError
from mammoscan.training import clinical, evaluate, split, stacking, train
from mammoscan.training.datasets.film import Film
from mammoscan.training.evaluate import Task
from mammoscan.training.examples import Examples
from tests.report import results

PATIENTS = 400
FOLDS = 5


def _film(patient, side, label, clinical_data, source="manifest"):
    return Film(
        source=source, name=f"{patient}-{side}", patient=f"{source}/{patient}", path=Path(), header=results.header(),
        label=label, density="", table=Path("manifest.csv"), row=2, clinical=clinical_data,
    )  # fmt: skip


def _examples(films):
    """Films without regions: all that the scores of breasts are fitted on beside the images' log odds."""
    m = len(films)
    columns = {
        "source": [f.source for f in films], "name": [f.name for f in films], "patient": [f.patient for f in films],
        "film_label": [f.label for f in films], "side": [f.name[-1] for f in films], "clear": [f.label == "normal" for f in films],
        "age": [np.nan] * m,
    }  # fmt: skip
    return Examples(**{name: np.array(columns.get(name, [])) for name in Examples.__slots__})


@dataclasses.dataclass(frozen=True)
class Made:
    """Patients with both breasts, a cancer in one of a third of them. image: log odds by film, of modest worth."""

    films: list
    image: np.ndarray
    fold: np.ndarray
    family: np.ndarray
    coffee: np.ndarray


@pytest.fixture(scope="module")
def made():
    """``family``: known of four in five, and twice as frequent or more with a cancer. ``coffee``, ``shoe``: drawn alone."""
    rng = np.random.default_rng(11)
    ill = rng.random(PATIENTS) < 1 / 3
    family = np.where(
        rng.random(PATIENTS) < 0.8, np.where(rng.random(PATIENTS) < np.where(ill, 0.7, 0.25), "yes", "no"), ""
    )
    coffee = rng.choice(["never", "daily", ""], PATIENTS)
    shoe = rng.normal(39, 2, PATIENTS)
    films, image = [], []
    for number in range(PATIENTS):
        for side in "LR":
            cancer = bool(ill[number]) and side == "L"
            films.append((f"p{number}", side, "malignant" if cancer else "normal",
                          {"family": family[number], "coffee": coffee[number], "shoe": f"{shoe[number]:.1f}"}))  # fmt: skip
            image.append(rng.normal(0.8 * cancer, 1.0))
    patient = np.array([name for name, *_ in films])
    fold = np.array([int(p[1:]) % FOLDS for p in patient.tolist()], np.int64)
    return Made(films, np.array(image), fold, family, coffee)


def _with(made, *names):
    """The films with these columns alone."""
    films = [_film(p, s, label, {f"clinical_{n}": cells[n] for n in names}) for p, s, label, cells in made.films]
    return clinical.with_columns(_examples(films), films)


def _out_of_fold(made, examples):
    """AUC with its interval, and the folds' scores: each fitted by the training's own code on the other folds' breasts."""
    split.check_no_leak(examples.patient, made.fold)
    odds, scores = np.full(len(made.image), np.nan), []
    for fold in range(FOLDS):
        score = stacking.breast_score(examples, made.image, made.fold != fold)
        scores.append(score)
        for members, x in stacking.breast_rows(examples, made.image, made.fold == fold):
            odds[members] = score.log_odds(x[None])[0]
    task = Task("breast", examples.film_label == "malignant", odds, examples.patient)
    return evaluate.auc(task, replicates=400), scores


def _weights(scores, column):
    return np.array(
        [[w for n, w in zip(s.inputs, s.weight.tolist(), strict=True) if n.startswith(column)] for s in scores]
    )


def test_a_column_that_matters_helps_out_of_fold_and_one_that_does_not_is_left_near_nothing(made):
    plain, _ = _out_of_fold(made, _with(made))
    matters, with_family = _out_of_fold(made, _with(made, "family"))
    vain, with_coffee = _out_of_fold(made, _with(made, "coffee", "shoe"))
    both, with_all = _out_of_fold(made, _with(made, "family", "coffee", "shoe"))
    print(f"\nAUC by breast out of fold: images alone {plain.value:.3f}, with family {matters.value:.3f} "
          f"({matters.low:.3f} to {matters.high:.3f}), with coffee and shoe {vain.value:.3f}, with all {both.value:.3f}")  # fmt: skip
    assert matters.value > plain.value + 0.05
    assert abs(vain.value - plain.value) < 0.02
    assert abs(both.value - matters.value) < 0.02
    strong = np.abs(_weights(with_family, "clinical_family")).max(axis=1).min()
    for scores in (with_coffee, with_all):
        for column in ("clinical_coffee", "clinical_shoe"):
            assert np.abs(_weights(scores, column)).mean() < 0.2 < strong
    print(f"largest weight of family in each fold at least {strong:.2f}")


def test_yes_speaks_for_a_cancer_no_against_and_missing_for_neither(made):
    score = stacking.breast_score(_with(made, "family"), made.image, np.ones(len(made.image), bool))
    weight = dict(zip(score.inputs, score.weight.tolist(), strict=True))
    no, yes, missing = (weight[f"clinical_family: {state}"] for state in ("no", "yes", "missing"))
    assert no < -0.2 < 0.2 < yes
    assert no < missing < yes


def test_a_set_that_does_not_ask_says_nothing_and_is_not_a_state_of_its_own(made):
    """Films of another set, all of them healthy but a few: were its silence the state "missing", that would name the set."""
    films = [_film(p, s, label, {"clinical_family": cells["family"]}) for p, s, label, cells in made.films]
    other = [_film(f"q{n}", "L", "malignant" if n < 3 else "normal", {}, "other") for n in range(300)]
    examples = clinical.with_columns(_examples([*films, *other]), [*films, *other])
    values = clinical.of(examples).values
    assert np.isnan(values[len(films) :]).all()
    assert np.isfinite(values[: len(films)]).all()
    image = np.concatenate([made.image, np.random.default_rng(2).normal(size=300)])
    score = stacking.breast_score(examples, image, np.ones(len(image), bool))
    alone = stacking.breast_score(_with(made, "family"), made.image, np.ones(len(made.image), bool))
    both = [dict(zip(s.inputs, s.weight.tolist(), strict=True))["clinical_family: missing"] for s in (score, alone)]
    assert both[0] == pytest.approx(both[1], abs=0.1)


def test_kinds_follow_from_the_cells():
    rows = [
        {"clinical_a": "1.5", "clinical_b": "Yes", "clinical_c": "", "clinical_d": "3"},
        {"clinical_a": "", "clinical_b": "no", "clinical_c": "unknown", "clinical_d": ""},
    ]
    films = [_film(f"p{n}", "L", "normal", cells) for n, cells in enumerate(rows)]
    assert clinical.columns_of(films) == (
        Column("clinical_a"), Column("clinical_b", ("no", "yes")), Column("clinical_d"),
    )  # fmt: skip
    many = [_film(f"p{n}", "L", "normal", {"clinical_note": f"text {n}"}) for n in range(clinical.MOST + 1)]
    with pytest.raises(LabelError, match="13 different values that are not all numbers"):
        clinical.columns_of(many)


def test_the_figure_with_clinical_data_withheld_is_that_of_the_folds_own_scores_told_nothing(made):
    def withheld(*names):
        examples = _with(made, *names)
        _, scores = _out_of_fold(made, examples)
        outcome = SimpleNamespace(
            examples=examples, fold=made.fold, models=[SimpleNamespace(breast=score) for score in scores]
        )
        found = stacking.breast_rows(examples, made.image, np.ones(len(made.image), bool))
        return evaluate._withheld(outcome, found), found, scores

    odds, found, scores = withheld("family")
    for (members, x), said in zip(found, odds.tolist(), strict=True):
        score = scores[made.fold[members[0]]]
        means = np.concatenate([x[:2], score.mean[2:]])
        assert said == pytest.approx(score.log_odds(means[None])[0])
    assert len(withheld()[0]) == 0


def test_without_columns_examples_and_their_digest_are_what_they_were(made):
    plain, asked = _with(made), _with(made, "family")
    assert type(plain) is Examples
    config = train.TrainConfig()
    digests = {train._digest(examples, config) for examples in (plain, asked, _with(made, "coffee"))}
    assert len(digests) == 3


def test_the_card_lists_each_column_with_its_weights(made):
    examples = _with(made, "family", "shoe")
    score = stacking.breast_score(examples, made.image, np.ones(len(made.image), bool))
    said = clinical.text(clinical.of(examples), score)
    assert "| `clinical_family` | categories: no, yes | no -" in said
    assert "| `clinical_shoe` | number | value " in said
    assert clinical.text(clinical.of(_with(made)), score) == ""
