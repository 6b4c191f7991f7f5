"""The command: from results and labels to files and an exit status."""

import csv
import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from mammoscan.cli import main

IMAGES = "path sop_instance_uid study_instance_uid patient_id laterality view age_years density manufacturer study_date malignancy".split()
FINDINGS = "sop_instance_uid number kind centre_x centre_y x0 y0 x1 y1 area_px malignancy".split()


def write_csv(path, heading, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heading)
        writer.writerows(rows)
    return path


@pytest.fixture
def study(tmp_path):
    """A run's folder over 40 patients, and its labels with locations."""
    rng = np.random.default_rng(1)
    run = tmp_path / "run"
    run.mkdir()
    images, findings, labels = [], [], []
    for p in range(40):
        density, age = rng.choice(list("abcd")), int(rng.integers(38, 80))
        sick = "L" if p % 4 == 0 else ""
        for side in "LR":
            for view in ("CC", "MLO"):
                sop = f"1.2.{p}.{ord(side)}.{len(view)}"
                cancer = side == sick
                score = round(float(1 / (1 + np.exp(1.6 - 2.0 * cancer - rng.normal()))), 6)
                images.append(
                    [
                        f"p{p}/{side}{view}.dcm",
                        sop,
                        f"1.9.{p}",
                        f"P{p}",
                        side,
                        view,
                        age,
                        density,
                        "ACME",
                        "20220310",
                        score,
                    ]
                )
                findings.append([sop, 1, "mass-like", 500, 600, 450, 550, 550, 650, 9000, score])
                labels.append([sop, "malignant" if cancer else "normal", *((505, 600, 60) if cancer else ("", "", ""))])
    write_csv(run / "images.csv", IMAGES, images)
    write_csv(run / "findings.csv", FINDINGS, findings)
    write_csv(
        run / "files.csv",
        ["path", "sop_instance_uid", "status", "reason"],
        [["bad.dcm", "9.9", "failed", "truncated"]],
    )
    (run / "run.json").write_text(json.dumps({"threshold": 0.3, "threshold_name": "sensitivity-0.90"}))
    return (
        run,
        write_csv(tmp_path / "labels.csv", ["sop_instance_uid", "label", "x", "y", "radius"], labels),
        labels,
    )


def run_audit(*arguments):
    return CliRunner().invoke(main, ["audit", *map(str, arguments), "--replicates", "100"])


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_an_audit_writes_its_files_and_every_metric_has_unit_cases_and_interval(study, tmp_path):
    run, labels, _ = study
    out = tmp_path / "out"
    result = run_audit(run, "--labels", labels, "--out", out)
    assert result.exit_code == 0, result.output
    assert {p.name for p in out.iterdir()} == {
        "metrics.json", "metrics.csv", "cases.csv", "unmatched.csv", "audit.html", "audit.pdf"
    }  # fmt: skip
    rows = rows_of(out / "metrics.csv")
    assert {r["level"] for r in rows} == {"region", "image", "breast", "patient", "study"}
    for row in rows:
        assert row["unit"]
        assert int(row["cases"]) > 0
        assert row["refused"] or (float(row["lower"]) <= float(row["value"]) + 1e-9), row
        assert row["refused"] or (float(row["value"]) <= float(row["upper"]) + 1e-9), row
    by_level = {r["level"]: r for r in rows if r["metric"] == "auc"}
    assert [int(by_level[level]["cases"]) for level in ("image", "breast", "patient", "study")] == [
        160,
        80,
        40,
        40,
    ]
    assert [int(by_level[level]["positives"]) for level in ("image", "breast", "patient")] == [20, 10, 10]


def test_labels_in_another_order_give_the_same_bytes_of_metrics(study, tmp_path):
    run, labels, rows = study
    shuffled = write_csv(tmp_path / "other" / "labels.csv" if (tmp_path / "other").mkdir() is None else labels,
                         ["sop_instance_uid", "label", "x", "y", "radius"], rows[::-1])  # fmt: skip
    for name, file in (("a", labels), ("b", shuffled)):
        assert run_audit(run, "--labels", file, "--out", tmp_path / name, "--level", "image").exit_code == 0
    a, b = (
        {(r["metric"], r["threshold_name"]): r["value"] for r in rows_of(tmp_path / n / "metrics.csv")} for n in "ab"
    )
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert float(value or "nan") == pytest.approx(float(b[key] or "nan"), nan_ok=True)


def test_unmatched_labels_and_results_are_listed_and_change_the_status(study, tmp_path):
    run, _, rows = study
    labels = write_csv(tmp_path / "some.csv", ["sop_instance_uid", "label", "x", "y", "radius"],
                       [*rows[:-2], ["9.9", "malignant", "", "", ""], ["8.8", "normal", "", "", ""]])  # fmt: skip
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "out")
    assert result.exit_code == 1
    listed = {(r["kind"], r["identifier"]): r["why"] for r in rows_of(tmp_path / "out" / "unmatched.csv")}
    assert listed["label", "9.9"] == "not analysed: truncated"
    assert listed["label", "8.8"] == "no such result"
    assert sum(kind == "result" for kind, _ in listed) == 2


def test_labels_that_meet_no_result_are_an_error(study, tmp_path):
    run, _, _ = study
    labels = write_csv(tmp_path / "none.csv", ["sop_instance_uid", "label"], [["7", "1"]])
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "none of 1 labels" in result.output


def test_breast_labels_give_no_image_level(study, tmp_path):
    run, _, _ = study
    rows = [[f"P{p}", side, int(p % 4 == 0 and side == "L")] for p in range(40) for side in "LR"]
    labels = write_csv(tmp_path / "b.csv", ["patient_id", "laterality", "cancer"], rows)
    assert run_audit(run, "--labels", labels, "--out", tmp_path / "out").exit_code == 0
    assert {r["level"] for r in rows_of(tmp_path / "out" / "metrics.csv")} == {"breast", "patient", "study"}
    refused = run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "image")
    assert refused.exit_code == 2
    assert "do not say what is true of one image" in refused.output


def test_scores_of_another_system_are_audited_from_a_csv(tmp_path):
    scores = write_csv(tmp_path / "s.csv", ["id", "score"], [[f"c{i}", i] for i in range(10)])
    labels = write_csv(tmp_path / "l.csv", ["id", "label"], [[f"c{i}", int(i > 4)] for i in range(10)])
    assert (
        run_audit(scores, "--labels", labels, "--out", tmp_path / "out", "--threshold", 5, "--level", "image").exit_code
        == 0
    )
    found = {(r["metric"], r["threshold_name"]): r for r in rows_of(tmp_path / "out" / "metrics.csv")}
    assert float(found["auc", ""]["value"]) == 1
    assert "outside 0 to 1" in found["brier", ""]["refused"]
    assert float(found["accuracy", "threshold 5"]["value"]) == 1


@pytest.mark.parametrize(
    ("bar", "status"),
    [
        ("auc=0.5", 0),
        ("image.auc=0.999", 5),
        ("image.auc.lower=0.98", 5),
        ("brier=0.5", 0),
        ("brier=0.001", 5),
        ("nonsense=1", 2),
    ],
)
def test_fail_under_decides_the_status(study, tmp_path, bar, status):
    run, labels, _ = study
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--fail-under", bar, "--level", "image")
    assert result.exit_code == status, result.output


def test_a_baseline_is_compared_on_the_common_cases(study, tmp_path):
    run, labels, _ = study
    images = rows_of(run / "images.csv")[:100]
    other = write_csv(tmp_path / "base.csv", ["sop_instance_uid", "score", "patient_id"],
                      [[r["sop_instance_uid"], 1 - float(r["malignancy"]), r["patient_id"]] for r in images])  # fmt: skip
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--baseline", other, "--level", "image")
    assert result.exit_code == 0, result.output
    (found,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["comparisons"]
    assert (found["common_cases"], found["only_in_results"]) == (100, 60)
    assert found["auc"]["results"] + found["auc"]["baseline"] == pytest.approx(1)
    changed = rows_of(tmp_path / "out" / "changed.csv")
    assert len(changed) == found["changed_sides"] > 0


def test_small_subgroups_are_marked_and_shown(study, tmp_path):
    run, labels, _ = study
    run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "breast")
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    density = [g for g in found["subgroups"] if g["factor"] == "density" and g["metric"] == "auc"]
    assert {g["group"] for g in density} == set("abcd")
    assert any(g["small"] for g in density)
    assert sum(g["cases"] for g in density) == 80
    side = [g for g in found["subgroups"] if g["factor"] == "laterality" and g["group"] == "R" and g["metric"] == "auc"]
    assert side[0]["value"] is None
    assert "positive" in side[0]["refused"]


def test_the_page_needs_no_network_and_escapes_what_it_shows(study, tmp_path):
    run, labels, _ = study
    text = (
        (run / "images.csv")
        .read_text()
        .replace("p4/LCC.dcm", "<script>alert(1)</script>.dcm")
        .replace("ACME", "A<b>CME")
    )
    (run / "images.csv").write_text(text)
    run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--threshold", "0.99")
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "<script" not in page
    assert "A<b>CME" not in page
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert "Sensitivity is TP/(TP+FN)" in page
