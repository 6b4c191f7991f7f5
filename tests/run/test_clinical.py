"""Clinical data in a run: into the breasts' scores, the reports and the keys, and into nothing that may not name a patient."""

import json
import subprocess

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner

from mammoscan.cli import main
from mammoscan.core import logs
from mammoscan.core.console import Console
from mammoscan.core.errors import LabelError, ModelError
from mammoscan.model import bundle as bundles
from mammoscan.run import score
from tests import clinical, small
from tests.devices import TimedDevice
from tests.run.test_deidentify import _found

ANNA, BERTA = "ANNA-1", "BERTA-2"
HEAD = "patient_id,clinical_bmi,clinical_hormones\n"
BOTH = HEAD + f"{ANNA},30,now\n{BERTA},,never\n"


@pytest.fixture(autouse=True)
def _stub(monkeypatch):
    monkeypatch.setattr(score, "Classifier", lambda *_, **__: TimedDevice(16))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return small.archive(tmp_path_factory.mktemp("archive") / "archive")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return clinical.model(tmp_path_factory.mktemp("model") / "model")


def _csv(folder, text):
    path = folder / "clinical.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _studies(out):
    return {row["patient_id"]: row for row in small.table(out, "studies")}


def _odds(row):
    p = float(row["malignancy"])
    return np.log(p / (1 - p))


class Heard(Console):
    """A console that keeps what it is told."""

    def __init__(self):
        super().__init__(quiet=True)
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_what_a_table_says_moves_the_breasts_scores_by_its_weights_and_no_other(archive, model, tmp_path):
    small.run(archive, tmp_path / "plain")
    small.run(archive, tmp_path / "out", model=model, clinical_csv=_csv(tmp_path, BOTH))
    before, after = _studies(tmp_path / "plain"), _studies(tmp_path / "out")
    # Standardised and weighted: bmi 30 (+1), hormones now (never -0.5, now +0.75); bmi missing, hormones never.
    by_hand = {ANNA: 1.0 * 1 + -0.5 * -1 + 0.5 * 1.5, BERTA: -0.25 * 1 + -0.5 * 1 + 0.5 * -0.5}
    for patient, added in by_hand.items():
        assert _odds(after[patient]) - _odds(before[patient]) == pytest.approx(added, abs=1e-3)
    of_images = [[row["malignancy"] for row in small.table(tmp_path / name, "images")] for name in ("plain", "out")]
    assert of_images[0] == of_images[1]


def test_no_table_is_said_once_and_counts_as_missing(archive, model, tmp_path):
    heard = Heard()
    small.run(archive, tmp_path / "none", model=model, console=heard)
    (said,) = [note for note in heard.notes if "clinical" in note]
    assert "--clinical-csv is not given: the model takes clinical_bmi, clinical_hormones" in said
    empty = _csv(tmp_path, HEAD + f"{ANNA},,\n{BERTA},missing,unknown\n")
    small.run(archive, tmp_path / "empty", model=model, clinical_csv=empty)
    none, missing = _studies(tmp_path / "none"), _studies(tmp_path / "empty")
    assert [none[p]["malignancy"] for p in (ANNA, BERTA)] == [missing[p]["malignancy"] for p in (ANNA, BERTA)]
    assert none[ANNA]["clinical"] == "clinical_bmi=missing;clinical_hormones=missing"


def test_columns_and_patients_that_do_not_meet_are_each_said_once(archive, model, tmp_path):
    heard = Heard()
    table = _csv(tmp_path, f"patient_id,clinical_bmi,clinical_genes\n{ANNA},30,zyxbrca\n")
    small.run(archive, tmp_path / "out", model=model, clinical_csv=table, console=heard)
    said = [note for note in heard.notes if note.startswith("--clinical-csv")]
    assert len(said) == 3
    assert "not trained on them: clinical_genes" in said[0]
    assert "lacks clinical_hormones" in said[1]
    assert "1 of 2 patients of the archive have no row" in said[2]


def test_a_changed_row_does_its_studies_again_and_no_others_and_no_image(archive, model, tmp_path):
    out = tmp_path / "out"
    small.run(archive, out, model=model, clinical_csv=_csv(tmp_path, BOTH))
    first = _studies(out)
    again = small.run(archive, out, model=model, clinical_csv=_csv(tmp_path, BOTH))
    assert (again.analysed, _studies(out)) == (0, first)
    pages = {p: (out / first[p]["folder"] / "report.pdf") for p in (ANNA, BERTA)}
    kept = {p: (path.read_bytes(), path.stat().st_mtime_ns) for p, path in pages.items()}
    changed = small.run(archive, out, model=model, clinical_csv=_csv(tmp_path, BOTH.replace("30,now", "35,now")))
    assert (changed.analysed, changed.unchanged, changed.failed) == (0, 3, 0)
    assert pages[BERTA].stat().st_mtime_ns == kept[BERTA][1]
    assert pages[ANNA].read_bytes() != kept[ANNA][0]
    second = _studies(out)
    assert second[BERTA] == first[BERTA]
    assert _odds(second[ANNA]) - _odds(first[ANNA]) == pytest.approx(1.0, abs=1e-3)
    small.run(archive, tmp_path / "fresh", model=model, clinical_csv=tmp_path / "clinical.csv")
    assert {p: row["malignancy"] for p, row in _studies(tmp_path / "fresh").items()} == {
        p: row["malignancy"] for p, row in second.items()
    }


def test_what_was_used_stands_in_pdf_table_and_json_and_in_no_other_object(archive, model, tmp_path):
    out = tmp_path / "out"
    table = _csv(tmp_path, HEAD + f"{ANNA},31.41593,now\n{BERTA},,never\n")
    small.run(archive, out, model=model, clinical_csv=table, write=("cad-sr", "tid1500", "pdf", "gsps", "seg", "sc"))
    studies = _studies(out)
    assert studies[ANNA]["clinical"] == "clinical_bmi=31.4159;clinical_hormones=now"
    assert studies[BERTA]["clinical"] == "clinical_bmi=missing;clinical_hormones=never"
    assert json.loads((out / "run.json").read_text())["clinical_columns"] == ["clinical_bmi", "clinical_hormones"]
    folder = out / studies[ANNA]["folder"]
    words = subprocess.run(
        ["pdftotext", "-layout", folder / "report.pdf", "-"], capture_output=True, text=True, check=True
    )
    assert "clinical data that the breasts' scores used" in words.stdout
    assert [line.split() for line in words.stdout.splitlines() if line.split()[:1] == ["clinical_bmi"]] == [
        ["clinical_bmi", "31.4159"]
    ]
    assert "it weighs clinical_bmi and clinical_hormones" in " ".join(words.stdout.split())
    objects = [p for p in folder.glob("*.dcm") if "EncapsulatedDocument" not in pydicom.dcmread(p)]
    assert len(objects) >= 3
    assert [p.name for p in objects if b"31.41" in p.read_bytes() or b"clinical_" in p.read_bytes()] == []


def test_results_without_identities_hold_no_value_in_any_byte(archive, model, tmp_path):
    """A number and a category long enough that no byte holds them by chance; with identities they are there."""
    facts = json.loads((model / "model.json").read_text())
    folder = clinical.model(tmp_path / "words")
    told = (
        json.dumps(facts)
        .replace('"now"', '"zyxplantedvalue"')
        .replace("clinical_hormones: now", "clinical_hormones: zyxplantedvalue")
    )
    (folder / "model.json").write_text(told)
    table = _csv(tmp_path, HEAD + f"{ANNA},31.415926,zyxplantedvalue\n{BERTA},,never\n")
    words = {"number": "bmi=31.4159", "category": "zyxplantedvalue", "as written": "31.415926"}
    key, log = tmp_path / "key", tmp_path / "log"
    with logs.session(log, anonymous=True):
        small.run(archive, tmp_path / "masked", model=folder, clinical_csv=table, deidentify=key)
    assert _found(tmp_path / "masked", words) == {}
    assert not any(word in log.read_text() for word in words.values())
    small.run(archive, tmp_path / "named", model=folder, clinical_csv=table)
    assert set(_found(tmp_path / "named", words)) == {"number", "category"}
    masked, named = (small.table(tmp_path / name, "studies") for name in ("masked", "named"))
    assert sorted(row["malignancy"] for row in masked) == sorted(row["malignancy"] for row in named)
    assert {row["clinical"] for row in masked} == {
        "clinical_bmi=given, not shown;clinical_hormones=given, not shown",
        "clinical_bmi=missing;clinical_hormones=given, not shown",
    }  # fmt: skip


@pytest.mark.parametrize("cells", ["zyxheavy,now", "30,zyxpast"])
def test_a_table_that_cannot_be_used_ends_the_run_before_anything_is_made_and_quotes_no_value(
    archive, model, tmp_path, cells
):
    table, log, out = _csv(tmp_path, HEAD + f"{ANNA},{cells}\n"), tmp_path / "log", tmp_path / "out"
    arguments = ["run", archive, "--out", out, "--model", model, "--clinical-csv", table, "--log-file", log]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 2
    assert "row 2, column 'clinical_" in done.output
    assert not out.exists()
    assert "zyx" not in log.read_text() + done.output


def test_notes_and_log_of_a_run_hold_no_value(archive, model, tmp_path):
    table, log = _csv(tmp_path, HEAD + f"{ANNA},31.41593,now\nPLANTED-9,27.182818,never\n"), tmp_path / "log"
    with logs.session(log, anonymous=False):
        small.run(archive, tmp_path / "out", model=model, clinical_csv=table)
    said = log.read_text()
    assert "1 of 2 patients of the archive have no row" in said
    assert not any(word in said for word in ("31.4159", "27.18", "PLANTED-9", "never"))


def test_a_model_that_takes_none_refuses_the_table(archive, tmp_path):
    with pytest.raises(LabelError, match="takes no clinical data"):
        small.run(archive, tmp_path / "out", clinical_csv=_csv(tmp_path, BOTH))
    assert not (tmp_path / "out").exists()


def test_a_model_is_refused_whose_columns_and_scores_do_not_fit(model, tmp_path):
    folder = clinical.model(tmp_path / "model")
    facts = json.loads((folder / "model.json").read_text())
    for columns in ([], [*facts["clinical_columns"], {"name": "clinical_genes", "categories": []}]):
        (folder / "model.json").write_text(json.dumps(facts | {"clinical_columns": columns}))
        with pytest.raises(ModelError, match=r"inputs that this version does not know|columns that no score takes"):
            bundles.load(folder)
    assert [column.name for column in bundles.load(model).columns] == ["clinical_bmi", "clinical_hormones"]


def test_inspect_tells_the_values_and_the_breasts_score_from_this_image(archive, model, tmp_path):
    table = _csv(tmp_path, BOTH)
    arguments = ["inspect", archive / "berta-cc.dcm", "--model", model, "--json"]

    def said(*more):
        done = CliRunner().invoke(main, [str(a) for a in (*arguments, *more)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)["clinical"]

    given, none = said("--clinical-csv", table), said()
    assert given["values"] == {"clinical_bmi": "missing", "clinical_hormones": "never"}
    assert given["notes"] == []
    assert none["values"] == {"clinical_bmi": "missing", "clinical_hormones": "missing"}
    assert "is not given" in none["notes"][0]
    small.run(archive, tmp_path / "out", model=model, clinical_csv=table)
    assert given["breast_malignancy"] == pytest.approx(float(_studies(tmp_path / "out")[BERTA]["malignancy"]), abs=1e-5)
