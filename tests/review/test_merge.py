"""Several readers' feedback as one table: what becomes a label, where they disagree, how far they agree."""

import csv
import json

import pytest
from click.testing import CliRunner

from mammoscan.audit import labels
from mammoscan.cli import main
from mammoscan.core.errors import LabelError
from mammoscan.review import merge, opinions
from mammoscan.training.datasets import tables
from mammoscan.training.datasets.manifest import NEEDED
from tests.review import folders

BOX = (100.0, 100.0, 200.0, 200.0)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = folders.write(tmp_path_factory.mktemp("merge") / "out", [folders.four(1), folders.four(2)])
    (out / "run.json").write_text(json.dumps({"archive": "/archive"}))
    return out


def row(reader, about, *, image=1, study=1, side="L", view="CC", stated="", decision="none", box=BOX, **more):
    corners = dict(zip(("x0", "y0", "x1", "y1"), map(str, box), strict=True)) if about != "breast" else {}
    cells = {
        "path": f"{study}/{image}.dcm", "patient": f"DEMO-{study}", "laterality": side, "view": view, "reader": reader,
        "sop_instance_uid": f"1.2.3.4.{study}.1.{image}", "study_instance_uid": f"1.2.3.4.{study}", "about": about,
        "decision": "missed" if about == "missed" else decision, "stated": stated, "written": "2026-01-01T00:00:00Z",
        "tracking_uid": f"2.25.{study}{image}" if about == "finding" else "", "finding_number": "1" if about == "finding" else "",
        "model_sha256": "ab" * 32, **corners, **more,
    }  # fmt: skip
    return {name: cells.get(name, "") for name in opinions.COLUMNS}


def files(folder, *readers):
    """An export of each reader."""
    made = []
    for number, rows in enumerate(readers):
        path = folder / f"reader-{number}.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, opinions.COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        made.append(path)
    return made


def merged(out, folder, *readers):
    said = merge.write(out, files(folder, *readers), folder / "merged.csv")
    found = list(csv.DictReader((folder / "merged.csv").open(encoding="utf-8", newline="")))
    disagreements = list(csv.DictReader((folder / "merged-disagreements.csv").open(encoding="utf-8", newline="")))
    return said, found, disagreements


def stated(found):
    return {(r["sop_instance_uid"], r["about"]): r["label"] for r in found}


def test_one_readers_file_keeps_its_labels_and_its_paths_become_whole(out, tmp_path):
    rows = [
        row("A", "finding", stated="malignant", decision="agree", note="=sum"),
        row("A", "breast", image=3, side="R", stated="normal"),
    ]
    _, found, disagreements = merged(out, tmp_path, rows)
    assert [(r["label"], r["path"], r["reader"]) for r in found] == [
        ("malignant", "/archive/1/1.dcm", "A"), ("normal", "/archive/1/3.dcm", "A"),
    ]  # fmt: skip
    assert disagreements == []
    assert found[0]["note"] == "A: =sum"


def test_what_more_than_half_of_the_readers_state_becomes_the_label(out, tmp_path):
    said, found, disagreements = merged(
        out, tmp_path,
        [row("A", "finding", stated="malignant", decision="agree")],
        [row("B", "finding", stated="malignant", decision="agree")],
        [row("C", "finding", stated="benign", decision="disagree")],
    )  # fmt: skip
    assert [(r["label"], r["reader"], r["decision"]) for r in found] == [("malignant", "A+B+C", "agree")]
    assert disagreements[0]["who"] == "A: agree; B: agree; C: disagree; A: malignant; B: malignant; C: benign"
    assert "A and B: agree or disagree: 1 of 1 alike, kappa not defined" in "\n".join(said)


def test_where_readers_are_divided_nothing_is_a_label_of_that_image(out, tmp_path):
    _, found, disagreements = merged(
        out, tmp_path,
        [row("A", "finding", stated="malignant"), row("A", "missed", box=(500, 500, 600, 600), stated="benign")],
        [row("B", "finding", stated="benign"), row("B", "missed", box=(505, 505, 600, 600), stated="benign")],
    )  # fmt: skip
    assert {r["label"] for r in found} == {""}
    assert len(disagreements) == 1


def test_places_that_overlap_are_one_lesion_at_their_mean(out, tmp_path):
    _, found, disagreements = merged(
        out, tmp_path,
        [row("A", "missed", box=(100, 100, 200, 200), stated="malignant")],
        [row("B", "missed", box=(110, 120, 210, 220), stated="malignant")],
    )  # fmt: skip
    assert [[float(r[c]) for c in ("x0", "y0", "x1", "y1")] for r in found] == [[105, 110, 205, 210]]
    assert disagreements == []


def test_a_place_that_not_more_than_half_of_the_readers_saw_is_no_label(out, tmp_path):
    one = [row("A", "missed", stated="malignant")]
    other = [row("B", "finding", box=(600, 600, 700, 700), stated="normal", decision="disagree")]
    third = [row("C", "missed", box=(105, 100, 205, 200), stated="malignant")]
    _, found, disagreements = merged(out, tmp_path, one, other)
    assert {r["label"] for r in found} == {""}
    assert disagreements[0]["who"] == "A: drawn; B: not drawn"
    _, found, disagreements = merged(out, tmp_path, one, other, third)
    assert stated(found)["1.2.3.4.1.1.1", "missed"] == "malignant"
    assert disagreements[0]["what"] == "seen"


def test_kappa_is_cohens(out, tmp_path):
    """20 of 50 both agree, 15 both disagree, 5 and 10 apart: kappa 0.4 (Cohen's own kind of example)."""
    words = (
        [("agree", "agree")] * 20
        + [("agree", "disagree")] * 5
        + [("disagree", "agree")] * 10
        + [("disagree", "disagree")] * 15
    )
    first, second = (
        [row(reader, "finding", decision=pair[i], tracking_uid=f"2.25.{n}") for n, pair in enumerate(words)]
        for i, reader in enumerate("AB")
    )
    said, _, disagreements = merged(out, tmp_path, first, second)
    assert "35 of 50 alike, kappa 0.40" in said[-1]
    assert len(disagreements) == 15


def test_a_breast_counts_once_however_many_images_show_it(out, tmp_path):
    views = [{"image": 1, "view": "CC"}, {"image": 2, "view": "MLO"}]
    said, found, _ = merged(
        out,
        tmp_path,
        *([row(r, "breast", stated=s, **v) for v in views] for r, s in (("A", "normal"), ("B", "benign"))),
    )
    assert "true class: 0 of 1 alike" in said[-1]
    assert {r["label"] for r in found} == {""}


def test_of_one_readers_two_words_the_later_counts(out, tmp_path):
    early = [row("A", "finding", stated="benign", written="2026-01-01T00:00:00Z")]
    late = [row("A", "finding", stated="malignant", written="2026-02-01T00:00:00Z")]
    _, found, _ = merged(out, tmp_path, late, early)
    assert [r["label"] for r in found] == ["malignant"]


def test_a_merged_table_is_read_by_audit_and_train(out, tmp_path):
    merged(
        out, tmp_path,
        [row("A", "finding", stated="malignant", kind="mass", age="66"), row("A", "finding", image=2, view="MLO", decision="agree", age="66")],
        [row("B", "finding", stated="malignant", kind="mass", age="66"), row("B", "breast", study=2, image=3, side="R", stated="normal")],
    )  # fmt: skip
    read = labels.read_labels(tmp_path / "merged.csv")
    assert {label.key[0]: label.class_name for label in read.labels} == {
        "1.2.3.4.1.1.1": "malignant",
        "1.2.3.4.2.1.3": "normal",
    }
    assert [r.get("label") for r in tables.read_table(tmp_path / "merged.csv", NEEDED)] == ["malignant", "normal"]


def test_a_table_without_a_decision_loses_no_row_and_an_empty_label_is_still_an_error(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("sop_instance_uid,label\n1.2,malignant\n1.3,\n")
    with pytest.raises(LabelError, match="row 3"):
        labels.read_labels(path)
    path.write_text("sop_instance_uid,label,decision\n1.2,malignant,\n1.3,,\n")
    with pytest.raises(LabelError, match="row 3"):
        labels.read_labels(path)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"about": "lump"}, "about 'lump'"), ({"stated": "maybe"}, "stated 'maybe'"), ({"reader": ""}, "reader is empty"),
     ({"x0": "left"}, "row 2"), ({"x1": "1"}, "x0 < x1")],
)  # fmt: skip
def test_a_table_that_is_no_export_is_refused_with_its_row(out, tmp_path, change, word):
    path = files(tmp_path, [{**row("A", "finding", stated="malignant"), **change}])
    with pytest.raises(LabelError, match="row 2") as caught:
        merge.write(out, path, tmp_path / "merged.csv")
    assert word in str(caught.value)
    assert not (tmp_path / "merged.csv").exists()


def test_other_tables_and_other_results_are_refused(out, tmp_path):
    (tmp_path / "labels.csv").write_text("sop_instance_uid,label\n1.2,malignant\n")
    with pytest.raises(LabelError, match="columns missing"):
        merge.write(out, [tmp_path / "labels.csv"], tmp_path / "merged.csv")
    with pytest.raises(LabelError, match="no row is about"):
        merge.write(out, files(tmp_path, [row("A", "breast", study=77, stated="normal")]), tmp_path / "merged.csv")


# --------------------------------------------------------------------------- the command


def test_the_command_makes_the_list_anew_and_merges(out, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("click.launch", opened.append)
    (out / "index.html").unlink()
    done = CliRunner().invoke(main, ["review", str(out)])
    assert (done.exit_code, done.output) == (0, f"2 studies: {out / 'index.html'}\n")
    assert opened == [str(out / "index.html")]
    (path,) = files(tmp_path, [row("A", "finding", stated="malignant")])
    done = CliRunner().invoke(main, ["review", str(out), "--merge", str(path), "--out", str(tmp_path / "m.csv")])
    assert done.exit_code == 0
    assert "labels: 1, of 1 images" in done.output
    for arguments in (["--merge", str(path)], ["--out", str(tmp_path / "m.csv")]):
        assert CliRunner().invoke(main, ["review", str(out), *arguments]).exit_code == 2


def test_a_folder_that_holds_no_results_is_said_in_one_line(tmp_path):
    done = CliRunner().invoke(main, ["review", str(tmp_path), "--no-open"])
    assert done.exit_code == 2
    assert "studies.csv" in done.output
    assert list(tmp_path.iterdir()) == []
