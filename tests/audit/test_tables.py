"""What is computed by column is what going through rows, pairs and draws one by one gives."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscan.audit import froc
from mammoscan.audit.images import ImageResult, ImageTable
from mammoscan.audit.intervals import Placements
from mammoscan.audit.labels import read_labels
from mammoscan.audit.lesions import Mark, hits
from mammoscan.audit.match import build, build_regions, join
from mammoscan.audit.results import Results

ROOT = Path(__file__).parents[2]


@st.composite
def archives(draw):
    """Images of few patients, with ties in scores and unknown sides, and labels of most of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    images, rows = [], []
    for i in range(draw(st.integers(1, 40))):
        patient = int(rng.integers(0, 8))
        study = f"1.9.{patient}.{rng.integers(0, 2)}" if rng.random() < 0.9 else ""
        marks = tuple(
            Mark(str(k), (float(rng.choice([50, 300])), 50.0), (20.0, 20.0, 90.0, 90.0), 4900.0, float(rng.integers(0, 5)) / 4)
            for k in range(rng.integers(0, 4))
        )  # fmt: skip
        own = [None if rng.random() < 0.3 else float(rng.integers(0, 4)) / 3 for _ in range(2)]
        images.append(
            ImageResult(
                f"1.2.{rng.permutation(1000)[0]}.{i}",
                "",
                f"{i}.dcm",
                f"P{patient}" if rng.random() < 0.9 else "",
                study,
                str(rng.choice(["L", "R", ""])),
                "CC",
                float(rng.integers(0, 4)) / 3,
                (0.2, 0.3, 0.5),
                "a",
                None,
                "",
                "",
                "",
                marks,
                own[0],
                own[1],
                i + 2,
            )  # fmt: skip
        )
        place = "50,50,30" if rng.random() < 0.8 else ",,"
        truth = rng.choice([f"malignant,{place}", "benign,,,", f"benign,{place}", "normal,,,"], p=[0.3, 0.2, 0.2, 0.3])
        if rng.random() < 0.9:
            rows.append(f"{i}.dcm,{truth}")
    return images, [*rows, "missing.dcm,normal,,,"]


def joined_of(folder, images, rows):
    labels = folder / "labels.csv"
    labels.write_text("\n".join(["path,label,x,y,radius", *rows]))
    found = Results("r", Path("r"), images, {}, {}, has_marks=True, archive=None, model="")
    return join(read_labels(labels), found)


@given(archives())
@settings(max_examples=60, deadline=None)
def test_cases_of_each_level_are_those_of_going_through_the_pairs(tmp_path_factory, archive):
    images, rows = archive
    joined = joined_of(tmp_path_factory.mktemp("t"), images, rows)
    assert list(ImageTable.of(images)) == images
    labelled = [row.partition(",")[0] for row in rows[:-1]]
    assert [p.image.path for p in joined.pairs] == labelled
    assert [i.path for i in joined.unmatched_results] == [i.path for i in images if i.path not in labelled]
    assert [(label.key, why) for label, why in joined.unmatched_labels] == [(("missing.dcm",), "no such result")]
    for level in ("image", "breast", "study", "patient"):

        def score(image, level=level):
            own = {"breast": image.breast_score, "study": image.study_score, "patient": image.study_score}.get(level)
            return image.score if own is None else own

        units = {}
        for pair in joined.pairs:
            i = pair.image
            whose = i.study_instance_uid or i.patient_id
            name = {"image": i.id, "breast": f"{whose} {i.laterality}" if whose and i.laterality else "",
                    "study": i.study_instance_uid, "patient": i.patient_id}[level]  # fmt: skip
            if name:
                units.setdefault(name, []).append(pair)
        for found in units.values():
            found.sort(key=lambda p: (-score(p.image), -p.image.score, p.image.id))
        cases = build(joined, level)
        assert list(cases.ids) == list(units)
        assert [list(m) for m in cases.members] == list(units.values())
        assert cases.truth.tolist() == [any(p.label.positive for p in m) for m in units.values()]
        assert cases.scores.tolist() == [score(m[0].image) for m in units.values()]
        drawn = {}
        for m, group in zip(units.values(), cases.groups.tolist(), strict=True):
            i = m[0].image
            assert drawn.setdefault((i.patient_id or i.study_instance_uid or i.id), len(drawn)) == group
        if units and all(p.label.class_name for m in units.values() for p in m):
            order = ("normal", "benign", "malignant")
            worst = [max(order.index(p.label.class_name) for p in m) for m in units.values()]
            assert cases.true_class.tolist() == worst


@given(archives())
@settings(max_examples=60, deadline=None)
def test_regions_are_those_of_holding_every_mark_to_every_lesion(tmp_path_factory, archive):
    joined = joined_of(tmp_path_factory.mktemp("t"), *archive)
    kept = [p for p in joined.pairs if not p.label.positive or (p.label.located and p.lesions)]
    lesions = [max((m.score for m in p.image.marks if hits(m, x)), default=-np.inf) for p in kept for x in p.lesions]
    regions = build_regions(joined)
    if not lesions:
        assert regions is None
        return
    marks = [(p, m, any(hits(m, x) for x in p.lesions)) for p in kept for m in p.image.marks]
    assert list(regions.cases.ids) == [f"{p.image.id} #{m.number}" for p, m, _ in marks]
    assert regions.cases.truth.tolist() == [hit for _, _, hit in marks]
    assert regions.cases.scores.tolist() == [m.score for _, m, _ in marks]
    assert [m for (m,) in regions.cases.members] == [p for p, _, _ in marks]
    assert regions.marks.lesion_scores.tolist() == lesions
    assert regions.marks.false_scores.tolist() == [m.score for _, m, hit in marks if not hit]
    assert (regions.left_out, regions.lesions) == (len(joined.pairs) - len(kept), len(lesions))


@given(st.integers(0, 2**31), st.sampled_from([2, 5, 1000]))
@settings(max_examples=80, deadline=None)
def test_free_response_of_a_draw_is_that_of_the_patients_copied(seed, ties):
    rng = np.random.default_rng(seed)
    patients, images, found, false = (int(n) for n in rng.integers(1, 12, 4))
    scores = rng.integers(0, ties, found) / ties
    scores[rng.random(found) < 0.2] = -np.inf
    groups = rng.integers(0, patients, images)
    groups[-1] = patients - 1
    marks = froc.Marks(
        scores, rng.choice(groups, found), rng.integers(0, ties, false) / ties, rng.choice(groups, false), groups
    )
    drawn = np.bincount(rng.integers(0, patients, patients), minlength=patients).astype(float)

    def copied(values, of):
        return np.repeat(values, drawn[of].astype(int))

    hit, missed = copied(marks.lesion_scores, marks.lesion_groups), copied(marks.false_scores, marks.false_groups)
    searched = drawn[groups].sum()
    rates = (0.0, 0.25, 1.0, 3.0)
    ours = froc.sensitivity_at(marks, rates, drawn)
    if not len(hit) or not searched:
        assert np.isnan(ours).all() or not searched
        return
    thresholds = [np.inf, *hit[np.isfinite(hit)], *missed]
    for rate, value in zip(rates, ours, strict=True):
        reached = [(hit >= t).mean() for t in thresholds if (missed >= t).sum() / searched <= rate + 1e-12]
        assert value == pytest.approx(max(reached))


@given(st.integers(0, 2**31), st.sampled_from([2, 5, 1000]))
@settings(max_examples=80, deadline=None)
def test_placements_are_shares_of_the_other_class_with_ties_one_half(seed, ties):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 40))
    truth, scores = rng.random(n) < 0.4, rng.integers(0, ties, n) / ties
    truth[:4] = True, True, False, False
    found = Placements.of(truth, scores)
    above = (scores[truth][:, None] > scores[~truth]) + (scores[truth][:, None] == scores[~truth]) / 2
    assert found.positives == pytest.approx(above.mean(axis=1))
    assert found.negatives == pytest.approx(above.mean(axis=0))
    assert found.influence().sum() == pytest.approx(0, abs=1e-9)
    assert (found.influence() ** 2).sum() == pytest.approx(found.delong().covariance[0, 0])


@pytest.mark.parametrize("missing", [True, False])
def test_placements_need_both_classes(missing):
    with pytest.raises(ValueError, match="needs positive and negative cases"):
        Placements.of(np.full(3, not missing), np.arange(3.0))


def test_every_template_of_the_page_is_in_the_package():
    folder = ROOT / "mammoscan" / "audit" / "templates"
    (pattern,) = re.findall(r'^"mammoscan\.audit" = \["(.*)"\]$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    packed = set(folder.parent.glob(pattern))
    assert {p for p in folder.iterdir() if p.is_file()} == packed
    assert {p.name for p in packed} == {"audit.html", "audit.css"}
