"""An audit says the same whatever program wrote its labels, and in quiet mode only what is wrong."""

import csv
import io
import json

import openpyxl
import pytest

from tests.audit.tables import rows_of, run_audit


def semicolons(rows):
    out = io.StringIO()
    csv.writer(out, delimiter=";").writerows(
        [[c.replace(".5", ",5") if n > 1 else c for n, c in enumerate(r)] for r in rows]
    )
    return out.getvalue()


def tabs(rows):
    return "\r\n".join("\t".join(row) for row in rows) + "\r\n"


def workbook(rows, path):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append([float(c) if n > 1 and c[:1].isdigit() else c for n, c in enumerate(row)])
    book.save(path)


FORMS = {
    "semicolons with decimal commas in Windows-1252": lambda rows, path: path.write_bytes(
        semicolons([[*rows[0], "Größe"], *rows[1:]]).encode("cp1252")
    ),
    "unicode text": lambda rows, path: path.write_bytes(tabs(rows).encode("utf-16")),
    "workbook": workbook,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_labels_gives_the_same_audit(study, tmp_path, form):
    run, labels, _ = study
    rows = [list(row) for row in csv.reader(labels.open())]
    rows = [rows[0], *([*r[:4], r[4] and "60.5"] for r in rows[1:])]
    labels.write_text("\n".join(",".join(row) for row in rows))
    other = tmp_path / "other.xlsx"
    FORMS[form](rows, other)
    for name, table in (("a", labels), ("b", other)):
        assert run_audit(run, "--labels", table, "--out", tmp_path / name).exit_code == 0
    for name in ("metrics.csv", "cases.csv", "unmatched.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_quiet_says_which_bar_was_missed_and_by_how_much(study, tmp_path):
    run, labels, _ = study
    arguments = [run, "--labels", labels, "--out", tmp_path / "out", "--level", "image", "--quiet"]
    result = run_audit(*arguments, "--fail-under", "auc=0.5", "--fail-under", "auc=0.99", "--fail-under", "brier=0.001")
    assert (result.exit_code, result.stdout) == (5, "")
    auc, brier = (
        float(r["value"]) for n in ("auc", "brier") for r in rows_of(tmp_path / "out/metrics.csv") if r["metric"] == n
    )
    first, second = result.stderr.splitlines()
    assert first.startswith(
        f"--fail-under auc=0.99 is NOT met (image level): {auc:.4f} is {0.99 - auc:.2g} below 0.99 (95 %"
    )
    assert second.startswith(
        f"--fail-under brier=0.001 is NOT met (image level): {brier:.4f} is {brier - 0.001:.2g} above"
    )
    held = run_audit(*arguments, "--fail-under", "auc=0.5")
    assert (held.exit_code, held.output) == (0, "")


def test_quiet_says_what_found_no_partner(study, tmp_path):
    run, labels, _ = study
    labels.write_text(labels.read_text() + "7.7,benign,,,\n")
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "out", "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("1 labels without a result, 0 results without a label: see ")


def test_what_was_matched_without_its_zeros_stands_in_the_audit(study, tmp_path):
    run, _, _ = study
    images = run / "images.csv"
    images.write_text("\n".join(line.replace(",P", ",00") for line in images.read_text().splitlines()))
    labels = tmp_path / "patients.csv"
    labels.write_text("patient_id,label\n" + "".join(f"{p},{int(p % 4 == 0)}\n" for p in range(40)))
    result = run_audit(run, "--labels", labels, "--out", tmp_path / "out")
    assert result.exit_code == 0
    (note,) = json.loads((tmp_path / "out/metrics.json").read_text())["notes"]
    assert "row 3: patient_id '1' is '001'" in note
    assert note[1:] in result.output
