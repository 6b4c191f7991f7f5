"""Labels of every kind, metrics at every level and every subgroup, through the command, against scikit-learn."""

import json
import math

import numpy as np
import pytest
from scipy.stats import chi2
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from tests.audit.tables import rows_of, run_audit, write_csv

EXACT = {"abs": 1e-9, "rel": 1e-9}
PREVALENCE = 0.02


def truth_of(row):
    """Whether the study fixture's image holds the cancer: the left breast of every fourth patient."""
    return row["laterality"] == "L" and int(row["patient_id"][1:]) % 4 == 0


@pytest.mark.parametrize(
    ("columns", "levels"),
    [
        (["sop_instance_uid"], "image breast patient study"),
        (["path"], "image breast patient study"),
        (["patient_id", "laterality", "view"], "image breast patient study"),
        (["patient_id", "laterality"], "breast patient study"),
        (["study_instance_uid"], "patient study"),
        (["patient_id"], "patient"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_labels_of_every_kind_meet_all_results_and_give_the_same_truth(study, tmp_path, columns, levels):
    run, _, _ = study
    images = rows_of(run / "images.csv")
    truth = {}
    for row in images:
        key = tuple(row[c] for c in columns)
        truth[key] = truth.get(key, False) or truth_of(row)
    labels = write_csv(tmp_path / "l.csv", [*columns, "label"], [[*k, int(v)] for k, v in truth.items()][::-1])
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["counts"] == {"pairs": 160, "unmatched_labels": 0, "unmatched_results": 0}
    numbers = {"image": (160, 20), "breast": (80, 10), "patient": (40, 10), "study": (40, 10)}
    assert {a["level"]: (a["cases"], a["positives"]) for a in found["levels"]} == {
        level: numbers[level] for level in levels.split()
    }
    scores, positives = {}, set()
    for row in images:
        scores[row["patient_id"]] = max(scores.get(row["patient_id"], 0), float(row["malignancy"]))
        positives |= {row["patient_id"]} if truth_of(row) else set()
    expected = sk.roc_auc_score([p in positives for p in scores], list(scores.values()))
    auc = {m["level"]: m["value"] for m in found["metrics"] if m["metric"] == "auc"}
    assert auc["patient"] == pytest.approx(expected, **EXACT)


def every_metric(truth, scores, threshold):
    """All metrics of one level by scikit-learn, or by their definition where it has none."""
    flagged = scores >= threshold
    (tn, fp), (fn, tp) = sk.confusion_matrix(truth, flagged, labels=[False, True])
    n, sensitivity, specificity = len(truth), tp / (tp + fn), tn / (tn + fp)
    true_alarm, false_alarm = sensitivity * PREVALENCE, (1 - specificity) * (1 - PREVALENCE)
    true_pass, false_pass = specificity * (1 - PREVALENCE), (1 - sensitivity) * PREVALENCE
    bins = np.minimum((scores * 10).astype(int), 9)
    gaps = [abs(truth[bins == b].sum() - scores[bins == b].sum()) for b in range(10)]
    logits = np.log(scores / (1 - scores))[:, None]
    fit = LogisticRegression(C=np.inf, tol=1e-14, max_iter=1000, solver="newton-cholesky").fit(logits, truth)
    at = {
        "sensitivity": sk.recall_score(truth, flagged),
        "specificity": sk.recall_score(~truth, ~flagged),
        "precision": sk.precision_score(truth, flagged),
        "npv": sk.precision_score(~truth, ~flagged),
        "accuracy": sk.accuracy_score(truth, flagged),
        "error_rate": 1 - sk.accuracy_score(truth, flagged),
        "f1": sk.f1_score(truth, flagged),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, flagged),
        "mcc": sk.matthews_corrcoef(truth, flagged),
        "recall_rate": flagged.mean(),
        "cancers_per_1000": 1000 * tp / n,
        "net_benefit": tp / n - fp / n * threshold / (1 - threshold),
        "ppv_at_prevalence": true_alarm / (true_alarm + false_alarm),
        "npv_at_prevalence": true_pass / (true_pass + false_pass),
    }
    over_all = {
        "auc": sk.roc_auc_score(truth, scores),
        "partial_auc": sk.roc_auc_score(truth, scores, max_fpr=0.1),
        "pr_auc": sk.average_precision_score(truth, scores),
        "brier": sk.brier_score_loss(truth, scores),
        "calibration_error": sum(gaps) / n,
        "calibration_slope": fit.coef_[0, 0],
    }
    return at, over_all, {"tp": tp, "fp": fp, "fn": fn, "tn": tn}


def test_every_metric_of_every_level_is_that_of_scikit_learn(study, tmp_path):
    run, labels, _ = study
    out = tmp_path / "out"
    run_audit(run, "--labels", labels, "--out", out, "--threshold", "0.5", "--prevalence", PREVALENCE)
    rows = rows_of(run / "images.csv")
    units = {
        "region": lambda r: r["sop_instance_uid"],  # the fixture's one finding an image, which lies on the lesion
        "image": lambda r: r["sop_instance_uid"],
        "breast": lambda r: (r["patient_id"], r["laterality"]),
        "patient": lambda r: r["patient_id"],
        "study": lambda r: r["study_instance_uid"],
    }
    data = json.loads((out / "metrics.json").read_text())
    measures = {(m["level"], m["metric"], m["threshold_name"]): m["value"] for m in data["metrics"]}
    tables = {a["level"]: a["tables"] for a in data["levels"]}
    checked = 0
    for level, unit in units.items():
        names = list(dict.fromkeys(map(unit, rows)))
        truth = np.array([any(truth_of(r) for r in rows if unit(r) == name) for name in names])
        scores = np.array([max(float(r["malignancy"]) for r in rows if unit(r) == name) for name in names])
        for name, threshold in (("sensitivity-0.90", 0.3), ("threshold 0.5", 0.5)):
            at, over_all, table = every_metric(truth, scores, threshold)
            assert tables[level][name] == table
            for metric, value in at.items():
                assert measures[level, metric, name] == pytest.approx(value, **EXACT), (level, metric, name)
            for metric, value in over_all.items():
                assert measures[level, metric, ""] == pytest.approx(value, **EXACT), (level, metric)
            checked += len(at) + len(over_all)
    assert checked == 5 * 2 * 20


def test_per_class_report_of_three_classes_is_that_of_scikit_learn(tmp_path):
    rng = np.random.default_rng(6)
    names = np.array(["normal", "benign", "malignant"])
    truth, shares = rng.integers(0, 3, 90), rng.dirichlet([1, 1, 1], 90)
    shares[np.arange(90), truth] += 0.3
    shares /= shares.sum(axis=1, keepdims=True)
    heading = ["case", "AI", "p_normal", "p_benign", "p_malignant"]
    scores = write_csv(tmp_path / "s.csv", heading, [[i, s[2], *s] for i, s in enumerate(shares.tolist())])
    labels = write_csv(tmp_path / "l.csv", ["Fall", "Befund"], [[i, names[t]] for i, t in enumerate(truth)][::-1])
    chosen = [x for pair in ("id=Fall", "label=Befund", "results.score=AI") for x in ("--column", pair)]
    result = run_audit(scores, "--labels", labels, "--out", tmp_path / "out", "--level", "image", *chosen)
    assert result.exit_code == 0, result.output
    (report,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["class_reports"]
    assert report["decided_by"] == "most probable class"
    called = shares.argmax(axis=1)
    theirs = sk.classification_report(truth, called, target_names=names, output_dict=True)
    ours = {**report["classes"], "macro avg": report["macro"], "weighted avg": report["weighted"]}
    for name, row in ours.items():
        for key in ("precision", "recall", "support"):
            assert row[key] == pytest.approx(theirs[name][key], **EXACT), (name, key)
        assert row["f1"] == pytest.approx(theirs[name]["f1-score"], **EXACT)
    assert report["accuracy"] == pytest.approx(theirs["accuracy"], **EXACT)
    assert report["confusion_matrix"] == sk.confusion_matrix(truth, called).tolist()


@pytest.fixture
def divided(tmp_path):
    """300 images of 300 patients that differ in everything that makes a subgroup, as (results, labels, rows)."""
    rng = np.random.default_rng(11)
    rows = []
    for i in range(300):
        sick = rng.random() < 0.4
        rows.append(
            {
                "id": f"c{i}", "patient_id": f"P{i}", "laterality": rng.choice(["L", "R"]), "view": rng.choice(["CC", "MLO"]),
                "age": int(rng.integers(36, 78)), "density": rng.choice(list("abcd")),
                "manufacturer": "north" if rng.random() < 0.6 else "south", "study_date": f"{rng.integers(2019, 2022)}0401",
                "score": round(float(1 / (1 + np.exp(1 - 1.4 * sick - rng.normal()))), 6), "label": int(sick),
                "lesion_kind": rng.choice(["mass", "calcification"]) if sick else "",
                "size_mm": int(rng.integers(4, 30)) if sick else "",
            }
        )  # fmt: skip
    seen = "id patient_id laterality view age density manufacturer study_date score".split()
    told = "id label lesion_kind size_mm".split()
    results = write_csv(tmp_path / "s.csv", seen, [[r[c] for c in seen] for r in rows])
    return results, write_csv(tmp_path / "l.csv", told, [[r[c] for c in told] for r in rows][::-1]), rows


def _band(age):
    return "under 40" if age < 40 else "70 and over" if age >= 70 else f"{age // 10 * 10} to {age // 10 * 10 + 9}"


def _size(mm):
    return "up to 10 mm" if mm <= 10 else "over 10 to 20 mm" if mm <= 20 else "over 20 mm"


OF = {
    "density": lambda r: r["density"],
    "age": lambda r: _band(r["age"]),
    "view": lambda r: r["view"],
    "laterality": lambda r: r["laterality"],
    "manufacturer": lambda r: r["manufacturer"],
    "year": lambda r: r["study_date"][:4],
    "lesion_kind": lambda r: r["lesion_kind"],
    "size": lambda r: _size(r["size_mm"]) if r["label"] else "",
}


def test_every_subgroup_has_its_counts_values_intervals_and_a_test_for_difference(divided, tmp_path):
    results, labels, rows = divided
    out = tmp_path / "out"
    result = run_audit(results, "--labels", labels, "--out", out, "--level", "image", "--threshold", 0.5)
    assert result.exit_code == 0, result.output
    data = json.loads((out / "metrics.json").read_text())
    groups = {(g["factor"], g["group"], g["metric"]): g for g in data["subgroups"]}
    assert {factor for factor, _, _ in groups} == set(OF)
    for factor, of in OF.items():
        for name in {of(r) for r in rows} - {""}:
            inside = [r for r in rows if of(r) == name]
            compared = inside + [r for r in rows if not r["label"] and factor in {"lesion_kind", "size"}]
            found = groups[factor, name, "auc"]
            assert (found["cases"], found["positives"]) == (len(inside), sum(r["label"] for r in inside))
            assert found["small"] == (min(found["positives"], sum(not r["label"] for r in compared)) < 10)
            truth, scores = [r["label"] for r in compared], [r["score"] for r in compared]
            assert found["value"] == pytest.approx(sk.roc_auc_score(truth, scores), **EXACT)
            rates = {"sensitivity": 1} if compared != inside else {"sensitivity": 1, "specificity": 0}
            for metric, which in rates.items():
                right = [(r["score"] >= 0.5) == which for r in inside if r["label"] == which]
                assert groups[factor, name, metric]["value"] == pytest.approx(np.mean(right), **EXACT)
            for metric in ("auc", *rates):
                g = groups[factor, name, metric]
                assert g["lower"] <= g["value"] <= g["upper"]
                assert g["lower"] < g["upper"]
    tests = {(d["factor"], d["metric"]): d for d in data["subgroup_tests"]}
    assert {factor for factor, _ in tests} == set(OF)
    # Two groups of independent cases: the Wald test on log odds by hand, half a case moved to the middle.
    sides = [np.array([r["score"] >= 0.5 for r in rows if r["label"] and r["laterality"] == s]) for s in "LR"]
    middles = [(x.sum() + 0.5) / (len(x) + 1) for x in sides]
    logits = [math.log(p / (1 - p)) for p in middles]
    variances = [
        max(x.mean() * (1 - x.mean()) / (len(x) - 1), p * (1 - p) / len(x)) / (p * (1 - p)) ** 2
        for x, p in zip(sides, middles, strict=True)
    ]
    expected = (logits[0] - logits[1]) ** 2 / sum(variances)
    found = tests["laterality", "sensitivity"]
    assert (found["chi_squared"], found["degrees_of_freedom"]) == (pytest.approx(expected, **EXACT), 1)
    assert found["p"] == pytest.approx(chi2.sf(expected, 1), **EXACT)


def test_what_the_labels_say_of_density_and_age_goes_before_the_results(study, tmp_path):
    run, _, _ = study
    images = rows_of(run / "images.csv")
    rows = [[r["sop_instance_uid"], int(truth_of(r)), "4" if i % 2 else "1", 85] for i, r in enumerate(images)]
    labels = write_csv(tmp_path / "l.csv", ["sop_instance_uid", "cancer", "birads_density", "age"], rows)
    run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "image")
    groups = json.loads((tmp_path / "out" / "metrics.json").read_text())["subgroups"]
    cases = {(g["factor"], g["group"]): g["cases"] for g in groups if g["factor"] in {"density", "age"}}
    assert cases == {("density", "a"): 80, ("density", "d"): 80, ("age", "70 and over"): 160}


@pytest.mark.parametrize(("label", "missing"), [("normal", "positive"), ("malignant", "negative")])
def test_one_class_alone_refuses_what_needs_both_and_writes_the_rest(tmp_path, label, missing):
    scores = write_csv(tmp_path / "s.csv", ["id", "score"], [[i, i / 20] for i in range(20)])
    labels = write_csv(tmp_path / "l.csv", ["id", "label"], [[i, label] for i in range(20)])
    result = run_audit(scores, "--labels", labels, "--out", tmp_path / "out", "--threshold", 0.5)
    assert result.exit_code == 0, result.output
    found = {r["metric"]: r for r in rows_of(tmp_path / "out" / "metrics.csv")}
    for metric in ("auc", "partial_auc", "balanced_accuracy", "mcc", "calibration_slope"):
        assert found[metric]["value"] == ""
        assert f"needs {missing} cases" in found[metric]["refused"]
    given = "specificity" if missing == "positive" else "sensitivity"
    for metric in ("accuracy", "brier", given):
        assert float(found[metric]["lower"]) <= float(found[metric]["value"]) <= float(found[metric]["upper"])
    assert f"cannot be said: needs {missing} cases" in result.output


@pytest.mark.parametrize("level", ["image", "breast", "patient", "study"])
def test_any_measured_metric_can_be_a_bar_on_either_side_of_its_value(study, tmp_path, level):
    run, labels, _ = study
    out = tmp_path / "out"
    run_audit(run, "--labels", labels, "--out", out, "--level", level)
    worse = {"brier", "calibration_error", "error_rate", "recall_rate"}
    arguments, expected = [], []
    for m in json.loads((out / "metrics.json").read_text())["metrics"]:
        for step in (-1e-6, 1e-6):
            arguments += ["--fail-under", f"{level}.{m['metric']}={m['value'] + step:.12f}"]
            expected.append((step > 0) == (m["metric"] in worse))
    result = run_audit(run, "--labels", labels, "--out", out, "--level", level, *arguments)
    assert result.exit_code == 5
    bars = json.loads((out / "metrics.json").read_text())["bars"]
    assert [b["met"] for b in bars] == expected
    assert all(math.isfinite(b["value"]) for b in bars)


def test_free_response_through_the_command_is_that_of_trying_every_threshold(study, tmp_path):
    run, labels, _ = study
    run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "region")
    found = {m["metric"]: m for m in json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]}
    images = rows_of(run / "images.csv")
    # One mark an image, which lies on the lesion where there is one.
    hits = np.array([float(r["malignancy"]) for r in images if truth_of(r)])
    false = np.array([float(r["malignancy"]) for r in images if not truth_of(r)])
    for rate in (0.25, 0.5, 1, 2, 4):
        reached = [t for t in [*hits, *false] if (false >= t).sum() / len(images) <= rate]
        row = found[f"froc_sensitivity_at_{rate:g}"]
        assert row["value"] == pytest.approx(max((hits >= t).mean() for t in reached), **EXACT)
        assert (row["cases"], row["positives"], row["patients"]) == (160, 20, 40)
        assert row["lower"] <= row["value"] <= row["upper"]
