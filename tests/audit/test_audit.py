"""The command: from results and labels to files and an exit status."""

import ast
import dataclasses
import graphlib
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from mammoscan.audit import gallery, story
from mammoscan.audit.lesions import Mark, box, circle
from mammoscan.audit.match import Pair
from mammoscan.audit.results import ImageResult
from tests.audit.tables import rows_of, run_audit, write_csv

EXAMPLE = ImageResult("1", "1", "1.dcm", "P", "1.9", "L", "CC", 0.9, None, "", None, "", "", "")


def test_an_audit_writes_its_files_and_every_metric_has_unit_cases_and_interval(study, tmp_path):
    run, labels, _ = study
    out = tmp_path / "out"
    result = run_audit(run, "--labels", labels, "--out", out)
    assert result.exit_code == 0, result.output
    assert {p.name for p in out.iterdir()} == {
        "metrics.json", "metrics.csv", "cases.csv", "unmatched.csv", "audit.html", "audit.pdf", "figures"
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
    assert "Sensitivity (recall) is TP/(TP+FN)" in page


def test_the_second_papers_counts_give_its_table_1_through_the_whole_command(tmp_path):
    # Benign 469 right of 617, malignant 1,206 right of 1,239.
    rows = [(0, 0.1)] * 469 + [(0, 0.9)] * 148 + [(1, 0.1)] * 33 + [(1, 0.9)] * 1206
    scores = write_csv(tmp_path / "s.csv", ["id", "score"], [(i, s) for i, (_, s) in enumerate(rows)])
    labels = write_csv(
        tmp_path / "l.csv", ["id", "label"], [(i, ("benign", "malignant")[t]) for i, (t, _) in enumerate(rows)][::-1]
    )
    out = tmp_path / "out"
    assert run_audit(scores, "--labels", labels, "--out", out, "--threshold", 0.5, "--level", "image").exit_code == 0
    found = json.loads((out / "metrics.json").read_text())
    (report,) = found["class_reports"]

    def row(line):
        return [round(line[k], 2) for k in ("precision", "recall", "f1")]

    assert row(report["classes"]["negative"]) == [0.93, 0.76, 0.84]
    assert row(report["classes"]["positive"]) == [0.89, 0.97, 0.93]
    assert row(report["macro"]) == [0.91, 0.87, 0.88]
    assert row(report["weighted"]) == [0.91, 0.90, 0.90]
    assert [report["classes"][c]["support"] for c in ("negative", "positive")] == [617, 1239]
    accuracy = next(m for m in found["metrics"] if m["metric"] == "accuracy")
    assert int(accuracy["value"] * 10000) == 9024
    assert (accuracy["numerator"], accuracy["denominator"], accuracy["interval_method"]) == (1675, 1856, "Wilson")


def test_the_first_papers_114_cases_give_more_than_98_percent_through_the_whole_command(tmp_path):
    rows = [(0, 0.1)] * 82 + [(0, 0.9)] * 2 + [(1, 0.9)] * 30
    scores = write_csv(tmp_path / "s.csv", ["id", "score"], [(i, s) for i, (_, s) in enumerate(rows)])
    labels = write_csv(tmp_path / "l.csv", ["id", "label"], [(i, t) for i, (t, _) in enumerate(rows)])
    assert run_audit(scores, "--labels", labels, "--out", tmp_path / "out", "--threshold", 0.5).exit_code == 0
    found = {r["metric"]: r for r in rows_of(tmp_path / "out" / "metrics.csv") if r["level"] == "image"}
    assert float(found["accuracy"]["value"]) == pytest.approx(112 / 114)
    assert float(found["sensitivity"]["value"]) == 1
    assert float(found["sensitivity"]["lower"]) < 1


def test_the_same_audit_gives_the_same_bytes(study, tmp_path):
    run, labels, _ = study
    files = []
    for name in "ab":
        assert run_audit(run, "--labels", labels, "--out", tmp_path / name, "--level", "image").exit_code == 0
        files.append({p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")})
    assert files[0] == files[1]
    assert {p.name for p in files[0]} >= {"audit.html", "audit.pdf", "roc-curve-image-level.svg"}


def test_every_figure_that_the_data_allow_is_in_the_page_and_in_a_file(study, tmp_path):
    run, labels, _ = study
    out = tmp_path / "out"
    run_audit(run, "--labels", labels, "--out", out, "--threshold", "0.5")
    page = (out / "audit.html").read_text()
    for title in (
        "ROC curve", "Precision and recall", "Scores", "Calibration", "Decision curve", "Free-response ROC",
        "Confusion matrix at sensitivity-0.90", "Confusion matrix at threshold 0.5", "Subgroups",
    ):  # fmt: skip
        assert re.search(rf"<figcaption>{title}[^<]*</figcaption><svg", page), title
    assert len(list((out / "figures").glob("*.svg"))) == page.count("<figcaption>")
    identifiers = re.findall(r'id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_the_pdf_says_the_same_in_plain_words_on_its_first_page(study, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("needs pdftotext (poppler-utils)")
    run, labels, _ = study
    run_audit(run, "--labels", labels, "--out", tmp_path / "out")
    text = subprocess.run(
        ["pdftotext", "-l", "1", tmp_path / "out" / "audit.pdf", "-"], check=True, capture_output=True, text=True
    ).stdout
    plain = " ".join(text.split())
    for words in ("40 patients were held against your labels: 10 with cancer", "Guessing would give 50", "cancers and missed",
                  "located cancers were marked", "research and second reading only"):  # fmt: skip
        assert words in plain, words


def test_few_cases_and_an_auc_no_better_than_guessing_are_said_in_plain_words(tmp_path):
    scores = write_csv(tmp_path / "s.csv", ["id", "score"], [[f"c{i}", 0.1 * (i % 2)] for i in range(12)])
    labels = write_csv(tmp_path / "l.csv", ["id", "label"], [[f"c{i}", int(i % 3 == 0)] for i in range(12)])
    output = run_audit(scores, "--labels", labels, "--out", tmp_path / "out").output
    assert "That is few" in output
    assert "do not show that the scores are of any use" in output
    assert "No operating point is known" in output


def test_sensitivity_asked_for_gives_its_threshold_and_says_that_it_is_optimistic(study, tmp_path):
    run, labels, _ = study
    run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "image", "--sensitivity", "0.95")
    rows = [r for r in rows_of(tmp_path / "out" / "metrics.csv") if r["threshold_name"] == "sensitivity 0.95 here"]
    by = {r["metric"]: r for r in rows}
    assert float(by["sensitivity"]["value"]) >= 0.95
    assert "optimistic" in by["sensitivity"]["note"]
    (level,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["levels"]
    at = {r["wanted"]: r for r in level["threshold_for_sensitivity"]}
    assert at[0.95]["threshold"] == float(by["sensitivity"]["threshold"])
    curve = level["decision_curve"]
    assert len(curve) == 99
    net = next(r for r in rows_of(tmp_path / "out" / "metrics.csv") if r["metric"] == "net_benefit")
    assert float(net["threshold"]) == 0.3
    assert curve[29]["recall_by_score"] == pytest.approx(float(net["value"]), abs=1e-9)


def test_a_baseline_is_judged_at_its_own_operating_point_of_the_same_name(study, tmp_path):
    run, labels, _ = study
    other = shutil.copytree(run, tmp_path / "other")
    (other / "run.json").write_text(json.dumps({"threshold": 0.6, "threshold_name": "sensitivity-0.90"}))
    run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "image", "--baseline", other)
    (found,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["comparisons"]
    assert (found["threshold"], found["baseline_threshold"]) == (0.3, 0.6)
    assert found["auc"]["difference"] == 0
    scores = [float(r["malignancy"]) for r in rows_of(run / "images.csv")]
    assert found["changed_sides"] == sum(0.3 <= s < 0.6 for s in scores) > 0
    assert found["mcnemar"]["clustered_by_patient"]
    assert "0.6 in the baseline" in (tmp_path / "out" / "audit.html").read_text()


def test_a_baseline_of_other_cases_is_an_error_and_its_columns_can_be_named(study, tmp_path):
    run, labels, _ = study
    sops = [r["sop_instance_uid"] for r in rows_of(run / "images.csv")]
    named = write_csv(tmp_path / "n.csv", ["sop_instance_uid", "AI"], [[s, 0.5] for s in sops])
    out = ("--labels", labels, "--out", tmp_path / "out", "--level", "image")
    assert run_audit(run, *out, "--baseline", named).exit_code == 2
    assert run_audit(run, *out, "--baseline", named, "--column", "baseline.score=AI").exit_code == 0
    apart = write_csv(tmp_path / "a.csv", ["sop_instance_uid", "score"], [["7.7", 0.5]])
    result = run_audit(run, *out, "--baseline", apart)
    assert result.exit_code == 2
    assert "no case of the results has a partner in the baseline" in result.output


@pytest.mark.parametrize(
    ("bar", "message"),
    [
        ("auc=nan", "not understood"),
        ("froc_sensitivity_at_3=0.5", "not understood"),
        ("sensitivity@nowhere=0.5", "thresholds here: sensitivity-0.90"),
        ("study.auc=0.5", "levels here: image"),
    ],
)
def test_a_bar_that_nothing_can_meet_is_a_usage_error(study, tmp_path, bar, message):
    run, labels, _ = study
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--fail-under", bar, "--level", "image")
    assert result.exit_code == 2
    assert message in result.output


def test_any_metric_or_its_lower_limit_can_be_a_bar(study, tmp_path):
    run, labels, _ = study
    bars = ["region.froc_sensitivity_at_1=0.5", "sensitivity@sensitivity-0.90.lower=0.3", "breast.specificity=0.2"]
    arguments = [a for bar in bars for a in ("--fail-under", bar)]
    assert run_audit(run, "--labels", labels, "--out", tmp_path / "out", *arguments).exit_code == 0
    verdicts = json.loads((tmp_path / "out" / "metrics.json").read_text())["bars"]
    assert [(v["bar"], v["level"], v["met"]) for v in verdicts] == [
        (bars[0], "region", True), (bars[1], "patient", True), (bars[2], "breast", True)
    ]  # fmt: skip


def test_a_bar_goes_before_unmatched_cases_in_the_status(study, tmp_path):
    run, _, rows = study
    labels = write_csv(tmp_path / "some.csv", ["sop_instance_uid", "label", "x", "y", "radius"], rows[:-2])
    assert run_audit(run, "--labels", labels, "--out", tmp_path / "o", "--level", "image").exit_code == 1
    assert (
        run_audit(
            run, "--labels", labels, "--out", tmp_path / "o", "--level", "image", "--fail-under", "auc=1.1"
        ).exit_code
        == 5
    )


def test_broken_labels_are_found_before_an_archive_is_analysed(tmp_path):
    (tmp_path / "archive").mkdir()
    labels = write_csv(tmp_path / "l.csv", ["id", "label"], [["a", "1"], ["a", "0"]])
    result = run_audit(tmp_path / "archive", "--labels", labels, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "rows 2, 3 (a): contradictory labels" in result.output
    assert not (tmp_path / "out").exists()


def test_an_archive_in_which_nothing_can_be_analysed_ends_with_the_runs_status(tmp_path):
    (tmp_path / "archive").mkdir()
    labels = write_csv(tmp_path / "l.csv", ["id", "label"], [["a", "1"]])
    result = run_audit(tmp_path / "archive", "--labels", labels, "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 3
    assert not (tmp_path / "out" / "audit.html").exists()


def test_an_archive_is_analysed_first_and_only_once(demo, tmp_path):
    archive = shutil.copytree(
        demo / "archive" / "northwind" / "study-1", tmp_path / "archive", ignore=shutil.ignore_patterns("again"),
        copy_function=shutil.copyfile,
    )  # fmt: skip
    for file in archive.iterdir():
        os.utime(file, (1e9, 1e9))
    names = {p.name for p in archive.iterdir()}
    rows = [r for r in rows_of(demo / "labels.csv") if r["path"].startswith("northwind/study-1/")]
    assert len(rows) == len(names) == 4
    labels = write_csv(tmp_path / "l.csv", list(rows[0]), [list(r.values()) for r in rows])
    labels.write_text(labels.read_text().replace("northwind/study-1/", ""))
    out = tmp_path / "out"
    result = run_audit(archive, "--labels", labels, "--out", out, "--column", "lesion_kind=kind")
    assert result.exit_code == 0, result.output
    found = {r["metric"]: r for r in rows_of(out / "metrics.csv") if r["level"] == "image"}
    assert (found["auc"]["cases"], found["auc"]["positives"]) == ("4", "2")
    before = {p: p.stat().st_mtime_ns for p in (out / "run").rglob("*.csv")}
    assert run_audit(archive, "--labels", labels, "--out", out, "--level", "image", "--quiet").exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "run").rglob("*.csv")} == before
    assert {p.name for p in archive.iterdir()} == names


def test_the_demo_run_is_audited_with_pictures_that_link_to_reports(demo, demo_run, tmp_path):
    out = tmp_path / "out"
    result = run_audit(demo_run, "--labels", demo / "labels.csv", "--out", out)
    assert result.exit_code in {0, 1}, result.output
    assert {r["level"] for r in rows_of(out / "metrics.csv")} == {"region", "image", "breast", "patient", "study"}
    page = (out / "audit.html").read_text()
    assert "src='data:image/jpeg;base64," in page
    links = [unquote(link) for link in re.findall(r"<a href='([^'#]+)'", page)]
    assert links
    assert all((out / link).resolve().is_file() and link.endswith(".pdf") for link in links)
    for row in rows_of(out / "cases.csv"):
        assert (demo_run / row["report"]).is_file()


def test_overlays_lie_where_truth_and_marks_are_in_the_source_image():
    image = dataclasses.replace(EXAMPLE, marks=(Mark("1", (1500, 500), (1400, 400, 1600, 600), None, 0.9),))
    pair = Pair(image, None, lesions=(circle(400, 2000, 150),), others=(box(1000, 1000, 1200, 1300),))
    drawn = gallery.draw(np.full((2560, 2048), 90, np.uint8), pair, threshold=0.5)
    picture = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert picture.shape == (640, 512, 3)

    def at(colour):
        near = np.abs(picture - colour).sum(axis=2) < 90
        y, x = np.nonzero(near)
        return 4 * x.min(), 4 * y.min(), 4 * x.max(), 4 * y.max()

    assert at(gallery.TRUTH) == pytest.approx((250, 1850, 550, 2150), abs=16)
    assert at(gallery.BENIGN) == pytest.approx((1000, 1000, 1200, 1300), abs=16)
    x0, _, x1, y1 = at(gallery.MARK)  # its score is written above it
    assert (x0, x1, y1) == pytest.approx((1400, 1600, 600), abs=16)


def test_a_case_without_its_image_says_why_there_is_no_picture(study, tmp_path):
    run, labels, _ = study
    run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "image")
    assert "no picture: the results name no archive" in (tmp_path / "out" / "audit.html").read_text()
    (tmp_path / "empty").mkdir()
    run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--level", "image", "--archive", tmp_path / "empty")
    assert "no picture: the image is not in the archive" in (tmp_path / "out" / "audit.html").read_text()


def test_marks_that_end_early_are_said_at_the_false_marks_they_do_not_reach(study, tmp_path):
    run, labels, _ = study
    run_audit(run, "--labels", labels, "--out", tmp_path / "out")
    found = {
        r["metric"]: r["note"] for r in rows_of(tmp_path / "out" / "metrics.csv") if r["metric"].startswith("froc")
    }
    assert "end at 0.88 false marks per image" in found["froc_sensitivity_at_4"]
    assert "end at" not in found["froc_sensitivity_at_0.5"]


def test_no_module_of_the_audit_imports_itself_through_others():
    folder = Path(story.__file__).parent
    uses = {}
    for file in folder.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "mammoscan.audit":
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mammoscan.audit."):
                names.add(node.module.rpartition(".")[2])
        uses[file.stem] = names
    graphlib.TopologicalSorter(uses).prepare()


def test_the_example_audits_the_demo_and_gives_the_figure_of_the_readme(demo, demo_run, tmp_path):
    root = Path(__file__).parents[2]
    lines = (root / "examples" / "audit.sh").read_text().splitlines()
    assert 'mammoscan demo "$out/demo"' in lines
    (line,) = (x for x in lines if x.startswith("mammoscan audit"))
    places = {
        "$out/demo/reports": demo_run,
        "$out/demo/labels.csv": demo / "labels.csv",
        "$out/audit": tmp_path / "audit",
    }
    words = [str(places.get(word, word)) for word in shlex.split(line)[2:]]
    assert not any("$" in word for word in words)
    assert run_audit(*words).exit_code == 0
    figure = "free-response-roc-lesions.svg"
    shown = (tmp_path / "audit" / "figures" / figure).read_text()
    manual = root / "mammoscan" / "docs"
    assert "(examples/audit.sh)" in (root / "README.md").read_text()
    page = (manual / "audit.md").read_text()
    assert "(../../examples/audit.sh)" in page
    assert "](images/audit-demo.svg)" in page
    assert figure in (root / "examples" / "README.md").read_text()
    committed = (manual / "images" / "audit-demo.svg").read_text()
    # The scores behind it change with the model; the same kind of figure of the same size does not.
    assert re.search(r"viewBox=\S+ \S+ \S+ \S+", committed)[0] == re.search(r"viewBox=\S+ \S+ \S+ \S+", shown)[0]
