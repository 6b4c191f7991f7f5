"""The work list: order, parts, earlier studies, and what is written again."""

import csv
import dataclasses
import hashlib
import json
import re
import sqlite3
import tracemalloc

import pytest

from mammoscan.core import verdict
from mammoscan.core.errors import MachineError, UsageError
from mammoscan.core.tableforms import FORMS, PLAIN
from mammoscan.report.tables import COLUMNS
from mammoscan.review import ranking, worklist
from tests.report import results
from tests.review import folders


def listed(out):
    content = (out / worklist.FOLDER / worklist.LIST).read_text(encoding="ascii")
    return json.loads(content.removeprefix("mammoscan.list(").removesuffix(");\n"))


def rows(out):
    found = []
    for name, studies, digest in listed(out)["scripts"]:
        content = (out / worklist.FOLDER / f"studies-{name}.js").read_text(encoding="ascii")
        assert content.startswith(f'mammoscan.chunk("{name}",')
        assert hashlib.sha256(content.encode()).hexdigest().startswith(digest)
        part = json.loads(content.removeprefix(f'mammoscan.chunk("{name}",').removesuffix(");\n"))
        assert len(part) == studies > 0
        found += part
    return [dict(zip(worklist.COLUMNS, row, strict=True)) for row in found]


def test_the_most_suspicious_study_is_first_and_those_without_a_score_are_last(tmp_path):
    failed = results.outcomes()["all-failed"]
    made = [folders.four(1, scores=(0.2, 0.1, 0, 0)), folders.four(2, scores=(0.1, 0, 0, 0.9)), failed]
    found = rows(folders.write(tmp_path / "out", made))
    assert [r["patient"] for r in found] == ["DEMO-2", "DEMO-1", failed.patient.patient_id]
    assert [(r["right"], r["left"], r["score"], r["above"]) for r in found[:2]] == [
        (0.9, 0.1, 0.9, True),
        (0, 0.2, 0.2, False),
    ]
    assert (found[2]["score"], found[2]["failed"], found[2]["images"]) == (None, 4, 0)
    assert (found[0]["date"], found[0]["age"], found[0]["density"], found[0]["folder"]) == (
        "2026-01-01",
        66.0,
        "~b",
        "1.2.3.4.2",
    )


def test_an_earlier_study_of_the_same_patient_is_named_with_its_score(tmp_path):
    made = [
        folders.four(1, patient="A", date="20200101", scores=(0.3, 0, 0, 0), age=60.0),
        folders.four(2, patient="A", date="20220101", scores=(0.4, 0, 0, 0), age=62.0),
        folders.four(3, patient="A", date="20240101", scores=(0.5, 0, 0, 0), age=64.0),
        folders.four(4, patient="B", date="20210101"),
    ]
    prior = {
        r["folder"]: (r["prior_date"], r["prior_folder"], r["prior_score"])
        for r in rows(folders.write(tmp_path / "out", made))
    }
    assert prior == {
        "1.2.3.4.1": ("", "", None),
        "1.2.3.4.2": ("2020-01-01", "1.2.3.4.1", 0.3),
        "1.2.3.4.3": ("2022-01-01", "1.2.3.4.2", 0.4),
        "1.2.3.4.4": ("", "", None),
    }


@pytest.mark.parametrize(
    "later",
    [
        {"date": ""},
        {"date": "20200101"},
        {"age": 30.0},
        {"name": "Somebody^Else"},
    ],
    ids=["without a date", "of the same day", "of another age", "of another name"],
)
def test_no_earlier_study_is_claimed_where_facts_speak_against_it(tmp_path, later):
    first = folders.four(1, patient="A", date="20200101", age=60.0)
    second = folders.four(2, **{"patient": "A", "date": "20220101", "age": 62.0, **later})
    assert {r["prior_folder"] for r in rows(folders.write(tmp_path / "out", [first, second]))} == {""}


def test_birth_dates_that_agree_make_up_for_an_age_that_is_unknown(tmp_path):
    first = folders.four(1, patient="A", date="20200101", age=60.0)
    second = folders.four(2, patient="A", date="20220101", age=None)
    assert {r["prior_folder"] for r in rows(folders.write(tmp_path / "out", [first, second]))} == {"", "1.2.3.4.1"}


def test_tables_of_before_there_were_earlier_studies_make_a_list_without_them(tmp_path):
    out = folders.write(tmp_path / "out", [folders.four(1)])
    path = out / "studies.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    kept = [name for name in table[0] if not name.startswith(("earlier_", "findings_new", "findings_seen"))]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    worklist.write(out)
    (row,) = rows(out)
    assert (row["patient"], row["prior_date"], row["change"], row["new"]) == ("DEMO-1", "", None, None)


def test_studies_without_a_patients_code_are_never_one_patients(tmp_path):
    made = [folders.four(n, date=f"20{20 + n}0101") for n in (1, 2)]
    made = [dataclasses.replace(r, patient=dataclasses.replace(r.patient, patient_id=""), images=tuple(
        dataclasses.replace(p, header=dataclasses.replace(p.header, patient=dataclasses.replace(p.header.patient, patient_id=""))) for p in r.images
    )) for r in made]  # fmt: skip
    assert {r["prior_folder"] for r in rows(folders.write(tmp_path / "out", made))} == {""}


def test_scripts_hold_some_thousand_studies_in_the_order_of_the_whole(tmp_path):
    out = folders.many(tmp_path / "out", 2300)
    assert worklist.write(out) == 2300
    assert listed(out)["studies"] == 2300
    assert all(studies <= ranking.LONGEST for _, studies, _ in listed(out)["scripts"])
    found = rows(out)
    assert len(found) == len({r["folder"] for r in found}) == 2300
    scores = [r["score"] for r in found]
    assert scores == sorted(scores, reverse=True)
    assert {r["outside"] for r in found if "implant" in r["flags"]} == {True}
    assert {r["outside"] for r in found if r["flags"] == "lossy-compression"} == {False}
    assert listed(out)["points"] == [["specificity-0.90", "0.379"]]


def test_only_what_differs_is_written_and_what_is_left_over_goes(tmp_path):
    out = folders.many(tmp_path / "out", 1500)
    worklist.write(out)
    before = {p.name: (p.stat().st_ino, p.read_bytes()) for p in (out / "review").iterdir()}
    worklist.write(out)
    assert {p.name: (p.stat().st_ino, p.read_bytes()) for p in (out / "review").iterdir()} == before
    folders.many(out, 900)
    worklist.write(out)
    assert len(rows(out)) == 900
    assert {p.name for p in (out / "review").glob("studies-*.js")} == {
        worklist.script_name(name) for name, *_ in listed(out)["scripts"]
    }
    worklist.remove(out)
    assert {p.name for p in out.iterdir()} == {"studies.csv", "images.csv", "findings.csv"}


def test_what_is_not_ours_is_left_alone(tmp_path):
    out = folders.many(tmp_path / "out", 3)
    (out / "index.html").write_text("somebody's own")
    worklist.remove(out)
    assert (out / "index.html").read_text() == "somebody's own"


def test_a_page_loads_nothing_but_what_lies_beside_it_and_runs_nothing_else(tmp_path):
    out = folders.many(tmp_path / "out", 3)
    worklist.write(out)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "@" not in page
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert all(name.partition("?")[0].startswith("review/") or name in {"#main", "data:,"} for name in loaded)
    assert all((out / name.partition("?")[0]).is_file() for name in loaded if name.startswith("review/"))
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"\son\w+=|style=", page)
    for path in (out / "review").glob("*.js"):
        script = path.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function|fetch\(|XMLHttp", script
        ), path.name


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"studies\.csv"):
        worklist.write(tmp_path)


def test_no_room_to_sort_is_said_as_what_it_is(tmp_path, monkeypatch):
    def full(_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(worklist.Ranking, "parts", full)
    with pytest.raises(MachineError, match="cannot be sorted: database or disk is full") as caught:
        worklist.write(folders.many(tmp_path / "out", 3))
    assert "TMPDIR" in caught.value.remedy


def test_memory_does_not_grow_with_the_list(tmp_path):
    """What is held in Python: SQLite sorts in a file."""

    def peak(count):
        out = folders.many(tmp_path / str(count), count)
        tracemalloc.start()
        try:
            worklist.write(out)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert sqlite3.sqlite_version_info >= (3, 25)  # window functions
    # Both lists are long enough for a script of the greatest length.
    assert peak(12_000) < 1.5 * peak(6000)


@pytest.mark.parametrize("name", sorted(set(FORMS) - {PLAIN.name}))
def test_tables_for_spreadsheets_give_the_same_list(tmp_path, name):
    made = [folders.four(1, patient="0012.50"), folders.four(2, age=61.5), results.outcomes()["all-failed"]]
    out = folders.write(tmp_path / "out", made)
    plain = rows(out)
    for table in ("studies", "images", "findings"):
        path = out / f"{table}.csv"
        first, _, rest = path.read_bytes().partition(b"\n")
        units = [column.unit for column in COLUMNS[table]]
        path.write_bytes(FORMS[name].heading(first + b"\n") + FORMS[name].lines(rest, units))
    worklist.write(out)
    assert rows(out) == plain


def test_the_end_of_a_run_names_the_page(tmp_path):
    assert verdict.REVIEW == worklist.INDEX
