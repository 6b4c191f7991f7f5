"""From review through audit to a model of one's own: three readers at the demo's results."""

import csv
import json
import shutil

import pytest
from click.testing import CliRunner

from mammoscan.cli import main
from tests.review.browser import MISSING, Browser

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.timeout(3600)]
DOUBTED = "DEMO-0006"  # a normal patient, of whom one reader says otherwise


def loop(reports, labels, folder):
    """Three readers read, export and merge: what the merge said, and the merged table."""
    from tests.review.readers import read_all

    with labels.open(encoding="utf-8", newline="") as stream:
        truth = {row["sop_instance_uid"]: row for row in csv.DictReader(stream)}
    address = (reports / "index.html").as_uri()
    readers = {
        "AB": lambda _, label: label,
        "CD": lambda uid, label: "" if truth[uid]["patient_id"] == DOUBTED else label,
        "EF": lambda _, label: "benign" if label == "malignant" else label,
    }
    exports = []
    for initials, stated in readers.items():
        browser = Browser(folder / initials)
        try:
            read_all(browser, address, truth, initials, stated=stated)
            browser.open(address)
            browser.one("#export").click()
            (path,) = browser.until(lambda b=browser: list(b.downloads.glob("*.csv")))
            assert browser.complaints() == []
        finally:
            browser.close()
        exports.append(path)
    arguments = [a for path in exports for a in ("--merge", str(path))]
    (folder / "truth").mkdir()
    done = CliRunner().invoke(
        main, ["review", str(reports), *arguments, "--out", str(folder / "truth" / "manifest.csv")]
    )
    assert done.exit_code == 0, done.output
    return done.output, truth, exports


def test_three_readers_words_become_figures_and_a_model(demo, demo_run, start, tmp_path):
    reports = shutil.copytree(demo_run, tmp_path / "reports")
    run = json.loads((reports / "run.json").read_text())
    assert run["archive"] == str(demo / "archive")
    said, truth, _ = loop(reports, demo / "labels.csv", tmp_path)
    print(said)
    with (tmp_path / "truth" / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["label"]]
    assert {row["sop_instance_uid"] for row in rows} == set(truth)
    assert all(row["label"] == truth[row["sop_instance_uid"]]["label"] for row in rows)
    assert "kappa" in said
    for table in ("manifest.csv", "manifest-disagreements.csv"):
        assert (tmp_path / "truth" / table).is_file()
    done = CliRunner().invoke(
        main,
        ["audit", str(reports), "--labels", str(tmp_path / "truth" / "manifest.csv"), "--out", str(tmp_path / "audit")],
    )
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(
        main, ["train", str(tmp_path / "truth"), "--out", str(tmp_path / "model"), "--start", str(start), "--folds", "3", "--seed", "2", "--epochs", "1", "--steps", "2"]
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (tmp_path / "model" / "model.json").is_file()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights of the right shape from stem to conv4; nothing was learnt by them."""
    import keras
    import numpy as np

    from mammoscan.model import network
    from mammoscan.training import train

    keras.utils.set_random_seed(0)
    model = network.resnet50(train.CROP, 1, 3, conv5=False, heads={"lesion_logits": 2})
    arrays = {k: v for k, v in network.weights_of(model).items() if not k.startswith("lesion")}
    path = tmp_path_factory.mktemp("start") / "start.npz"
    np.savez(path, **arrays)
    return path
