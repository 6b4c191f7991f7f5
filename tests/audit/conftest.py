"""Shared fixtures of the audit's tests."""

import json

import numpy as np
import pytest

from tests.audit.tables import FINDINGS, IMAGES, write_csv


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
