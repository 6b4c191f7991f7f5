"""Breasts and studies are audited by the scores and thresholds that the run gave them, images by their own."""

import json

from tests.audit.tables import rows_of, run_audit, write_csv

IMAGES = "path sop_instance_uid study_instance_uid patient_id laterality view malignancy".split()
STUDIES = "study_instance_uid patient_id malignancy malignancy_left malignancy_right".split()
POINTS = {"image": {"sensitivity-0.90": 0.5}, "breast": {"sensitivity-0.90": 0.2}, "finding": {"sensitivity-0.90": 0.1}}


def made(folder):
    """Two patients; the run scores breasts otherwise than by their highest image."""
    run = folder / "run"
    run.mkdir()
    images, studies, labels = [], [], []
    for n, (left, right) in enumerate([(0.30, 0.10), (0.05, 0.15)]):
        for side in "LR":
            images.append(
                [f"{n}{side}.dcm", f"1.{n}.{ord(side)}", f"1.{n}", f"P{n}", side, "MLO", 0.6 if side == "R" else 0.4]
            )
        studies.append([f"1.{n}", f"P{n}", max(left, right), left, right])
        labels += [[f"P{n}", "L", "malignant" if n == 0 else "normal"], [f"P{n}", "R", "normal"]]
    write_csv(run / "images.csv", IMAGES, images)
    write_csv(run / "studies.csv", STUDIES, studies)
    (run / "run.json").write_text(json.dumps({
        "threshold": 0.5, "breast_threshold": 0.2, "finding_threshold": 0.1, "threshold_name": "sensitivity-0.90",
        "operating_points": POINTS,
    }))  # fmt: skip
    return run, write_csv(folder / "labels.csv", ("patient_id", "laterality", "label"), labels)


def test_a_breasts_score_and_threshold_are_the_runs(tmp_path):
    run, labels = made(tmp_path)
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "audit")
    assert result.exit_code == 0, result.output
    found = {(m["level"], m["metric"], m["threshold_name"]): m for m in rows_of(tmp_path / "audit" / "metrics.csv")}
    breast = found["breast", "sensitivity", "sensitivity-0.90"]
    assert (float(breast["threshold"]), float(breast["value"])) == (0.2, 1.0)
    assert float(found["breast", "specificity", "sensitivity-0.90"]["value"]) == 1.0
    assert float(found["breast", "auc", ""]["value"]) == 1.0
    # The highest image would say that every right breast is the suspicious one.
    cases = {c["case"]: float(c["score"]) for c in rows_of(tmp_path / "audit" / "cases.csv") if c["level"] == "breast"}
    assert sorted(cases.values()) == [0.05, 0.10, 0.15, 0.30]
    patient = [float(c["score"]) for c in rows_of(tmp_path / "audit" / "cases.csv") if c["level"] == "patient"]
    assert sorted(patient) == [0.15, 0.30]
