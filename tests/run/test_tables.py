"""Tables that are changed where they changed are the tables that would be written anew."""

import contextlib
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscan.core import store
from mammoscan.core.tableforms import FORMS, PLAIN
from mammoscan.report.tables import COLUMNS, header_line, lines
from mammoscan.review import ranking, worklist
from mammoscan.run import tablerows, tables
from mammoscan.run.inventory import Facts, Inventory, Status
from mammoscan.run.ledger import Ledger, Output, StudyRecord
from mammoscan.run.policy import Plain


def _listed(ledger, sizes=(0, 1)):
    """An inventory of some files and no others: one a number, with a path that holds it, and its size."""
    inventory = Inventory(ledger.connection, Path("/archive"), Plain(), lambda: None)
    held = {_path(number): size for number, size in enumerate(sizes) if size is not None}
    listed = {line.path: line.size for line in inventory.lines()}
    for path in listed.keys() - held.keys():
        ledger.connection.execute("DELETE FROM files WHERE path = ?", (path,))
    for path, size in held.items():
        if listed.get(path) != size:
            inventory.record(Facts(path, size, 0, "1.2", f"1.2.{size}", Status.ANALYSED, "", "", "", False, b""))
    return inventory


def _path(number):
    return f'{number}, "x".dcm'


def _expected_files(sizes, form):
    rows = [
        [_path(number), str(size), "analysed", *[""] * 5, "1.2", f"1.2.{size}"]
        for number, size in enumerate(sizes)
        if size is not None
    ]
    units = [column.unit for column in COLUMNS["files"]]
    return form.heading(header_line(COLUMNS["files"])) + form.lines(lines(sorted(rows), COLUMNS["files"]), units)


def _rows(uid, findings, mark):
    """Rows of a study; ``mark`` makes them others of the same or another length. Units, as in a run's rows, are of numbers."""
    made = {
        name: [["1" if column.unit else "x" for column in COLUMNS[name]] for _ in range(n)]
        for name, n in (("images", 2), ("findings", findings), ("studies", 1))
    }
    for name, found in made.items():
        names = [c.name for c in COLUMNS[name]]
        for number, row in enumerate(found):
            row[names.index("study_instance_uid")] = uid
            row[names.index("patient_id")] = f"=P, {mark % 2}\n"
            if "study_date" in names:
                row[names.index("study_date")] = f"202{mark % 3}0131"
            if "malignancy" in names:
                row[names.index("malignancy")] = f"{mark / 100:.6g}"
            if name == "studies":
                for side in ("left", "right"):
                    row[names.index(f"malignancy_{side}")] = ""
            if name == "findings":
                row[names.index("contour")] = ";".join(f"{x}.25 {number}.00" for x in range(mark % 7 + 3))
    return made


def _record(ledger, uid, findings, mark):
    record = StudyRecord(f"{findings} {mark}", "", ("20260101", "120000"), (Output(f"studies/{uid}/report.pdf", "0"),), 1,
                         tablerows.packed(_rows(uid, findings, mark)))  # fmt: skip
    ledger.record_study(uid, record)


def _expected(held, name, form=PLAIN):
    found = [row for uid in sorted(held) for row in _rows(uid, *held[uid])[name]]
    units = [column.unit for column in COLUMNS[name]]
    return form.heading(header_line(COLUMNS[name])) + form.lines(lines(found, COLUMNS[name]), units)


UIDS = [f"1.2.{n}" for n in range(8)]
OPS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.sampled_from(UIDS), st.integers(0, 3), st.integers(0, 99)),
        st.tuples(st.just("withdraw"), st.sampled_from(UIDS)),
        st.tuples(st.just("files"), st.lists(st.none() | st.sampled_from([7, 1234567]), max_size=5)),
        st.tuples(st.just("write")),
        st.tuples(st.just("form"), st.sampled_from(sorted(FORMS))),
        st.tuples(st.just("touch"), st.sampled_from(["images", "findings", "studies", "files"])),
        st.tuples(st.just("lose"), st.sampled_from(["images", "findings", "studies", "files"])),
        st.tuples(st.just("reopen")),
    ),
    max_size=25,
)


@settings(max_examples=150)
@given(OPS)
def test_tables_and_the_work_list_that_are_changed_are_those_that_are_made_anew(tmp_path_factory, ops):
    out = tmp_path_factory.mktemp("out")
    held, sizes, stack, form = {}, (0, 1), contextlib.ExitStack(), PLAIN
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(ranking, "CHUNK", 3)
    patch.setattr(ranking, "LONGEST", 2)
    stack = stack.enter_context(contextlib.ExitStack())
    ledger = stack.enter_context(Ledger(out))
    for op, *what in (*ops, ("write",), ("write",)):
        if op == "record":
            uid, findings, mark = what
            _record(ledger, uid, findings, mark)
            held[uid] = (findings, mark)
        elif op == "withdraw":
            ledger.withdraw(what[0], "mixed-patients")
            held.pop(what[0], None)
        elif op == "files":
            (sizes,) = what
        elif op == "form":
            form = FORMS[what[0]]
        elif op == "write":
            tables.write(ledger, _listed(ledger, sizes), out, form)
            for name in tablerows.OF_A_STUDY:
                assert (out / f"{name}.csv").read_bytes() == _expected(held, name, form), name
            assert (out / "files.csv").read_bytes() == _expected_files(sizes, form)
            worklist.update(out, ledger.ranking, whole=False)
            anew = tmp_path_factory.mktemp("anew")
            for table in out.glob("*.csv"):
                (anew / table.name).write_bytes(table.read_bytes())
            worklist.write(anew)
            assert _scripts(out) == _scripts(anew)
            assert tables.current(ledger, out, form)
            assert not any(tables.current(ledger, out, other) for other in FORMS.values() if other != form)
            first = sorted(held, key=lambda uid: (-held[uid][1], uid))[: tables.MOST_SUSPICIOUS]
            assert [study.study_instance_uid for study in tables.most_suspicious(ledger)] == first
        elif op == "touch" and (out / f"{what[0]}.csv").exists():
            (out / f"{what[0]}.csv").write_bytes(b"somebody's notes")
        elif op == "lose":
            (out / f"{what[0]}.csv").unlink(missing_ok=True)
        elif op == "reopen":
            stack.close()
            ledger = stack.enter_context(Ledger(out))
    stack.close()
    assert not list(out.glob(f"{store.TEMPORARY_PREFIX}*"))


def _scripts(out):
    return {path.name: path.read_bytes() for path in (out / worklist.FOLDER).iterdir()}


@pytest.fixture
def written(tmp_path):
    """Tables of three studies."""
    with Ledger(tmp_path) as ledger:
        for number, uid in enumerate(UIDS[:3]):
            _record(ledger, uid, 2, number)
        assert tables.write(ledger, _listed(ledger), tmp_path) == (True, [])
    return tmp_path


def _lying(out):
    """Which files the tables are, and when they were written; not when somebody read them."""
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in out.glob("*.csv")}


def test_a_study_that_was_made_again_with_the_same_rows_replaces_no_table(written):
    before = _lying(written)
    with Ledger(written) as ledger:
        assert tables.current(ledger, written)
        _record(ledger, UIDS[1], 2, 1)
        tables.outdated(ledger)
        assert not tables.current(ledger, written)
        assert tables.write(ledger, _listed(ledger), written) == (False, [])
        assert tables.current(ledger, written)
    assert _lying(written) == before


def test_only_the_table_that_differs_is_replaced(written):
    before = {p.name: p.stat().st_ino for p in written.glob("*.csv")}
    with Ledger(written) as ledger:
        tables.write(ledger, _listed(ledger, (0, 1, 2)), written)
    assert {n for n in before if (written / n).stat().st_ino != before[n]} == {"files.csv"}


def test_what_is_formatted_is_what_changed_and_the_rest_is_copied_by_the_system(tmp_path, monkeypatch):
    uids = [f"1.2.{n}" for n in range(60)]
    with Ledger(tmp_path) as ledger:
        for number, uid in enumerate(uids):
            _record(ledger, uid, 2, number)
        tables.write(ledger, _listed(ledger, range(300)), tmp_path)
        formatted, copied, shown = Counter(), Counter(), []
        edit, sendfile, listed = tables._Spliced.edit, os.sendfile, worklist.listed

        def count(table, before, old, plain):
            formatted[table._fresh._path.stem] += plain.count(b"\n")
            return edit(table, before, old, plain)

        def copy(into, source, offset, wanted):
            copied["bytes"] += (done := sendfile(into, source, offset, wanted))
            return done

        monkeypatch.setattr(tables._Spliced, "edit", count)
        monkeypatch.setattr(os, "sendfile", copy)
        monkeypatch.setattr(worklist, "listed", lambda *lines: shown.append(lines) or listed(*lines))
        _record(ledger, uids[7], 3, 50)  # other rows
        _record(ledger, "1.2.99", 1, 60)  # more
        ledger.withdraw(uids[30], "mixed-patients")  # and none any more
        sizes = [*range(40), None, *range(41, 299), 5, 6]  # of files one is gone, one another, one more
        assert tables.write(ledger, _listed(ledger, sizes), tmp_path) == (True, [])
    assert formatted == {"images": 2 + 2, "findings": 3 + 1, "studies": 1 + 1, "files": 2}
    assert len(shown) == 3
    whole = sum(path.stat().st_size for path in tmp_path.glob("*.csv"))
    assert 0.8 * whole < copied["bytes"] < whole
    assert (tmp_path / "files.csv").read_bytes() == _expected_files(sizes, PLAIN)


@pytest.mark.parametrize("statement", [
    "UPDATE files SET status = 3, code = 'no-pixels' WHERE path LIKE '1,%'",
    "UPDATE files SET study = '1.9' WHERE path LIKE '0,%'",
    "DELETE FROM files WHERE path LIKE '0,%'",
    "INSERT OR REPLACE INTO files SELECT id, path, 77, stamp, study, instance, status, stage, code, detail, passing, "
    "content, facts FROM files",
])  # fmt: skip
def test_a_line_is_made_again_whatever_changed_its_file(written, statement):
    with Ledger(written) as ledger:
        ledger.connection.execute(statement)
        inventory = Inventory(ledger.connection, Path("/archive"), Plain(), lambda: None)
        assert tables.write(ledger, inventory, written) == (True, [])
        spliced = (written / "files.csv").read_bytes()
        (written / "files.csv").unlink()
        tables.write(ledger, inventory, written)
    assert (written / "files.csv").read_bytes() == spliced


def test_a_state_file_that_does_not_know_what_its_tables_hold_has_them_written_whole(written):
    """As versions before leave it, that wrote ``files.csv`` anew each time and sorted the work list from the tables."""
    with Ledger(written) as ledger:
        before = _lying(written)
        noted = json.loads(ledger.fact("tables"))
        for trigger in ("line_made", "line_changed", "line_gone"):
            ledger.connection.execute(f"DROP TRIGGER {trigger}")
        for table in ("lines", "fresh_lines", "listed", "listed_said", "parts"):
            ledger.connection.execute(f"DROP TABLE {table}")
        ledger.note("tables", json.dumps(noted[1:]))
    with Ledger(written) as ledger:
        assert not tables.current(ledger, written)
        assert tables.write(ledger, _listed(ledger), written) == (False, [])
        assert _lying(written) == before
        assert [study.study_instance_uid for study in tables.most_suspicious(ledger)] == UIDS[2::-1]
        assert tables.write(ledger, _listed(ledger, (0, 1, 2)), written) == (True, [])
    assert (written / "files.csv").read_bytes() == _expected_files((0, 1, 2), PLAIN)


def test_a_write_that_fails_leaves_the_old_tables_and_is_made_up_for(written, monkeypatch):
    before = {p.name: p.read_bytes() for p in written.glob("*.csv")}
    with Ledger(written) as ledger:
        _record(ledger, UIDS[1], 3, 7)

    def full(*_):
        raise OSError(28, "No space left on device")

    def fail():
        with Ledger(written) as ledger:
            tables.write(ledger, _listed(ledger), written)

    with monkeypatch.context() as patch:
        patch.setattr(os, "sendfile", full)
        with pytest.raises(OSError, match="No space"):
            fail()
    assert {p.name: p.read_bytes() for p in written.iterdir() if p.suffix == ".csv"} == before
    assert not list(written.glob(f"{store.TEMPORARY_PREFIX}*"))
    with Ledger(written) as ledger:
        assert tables.write(ledger, _listed(ledger), written) == (True, [])
    held = {UIDS[0]: (2, 0), UIDS[1]: (3, 7), UIDS[2]: (2, 2)}
    assert (written / "findings.csv").read_bytes() == _expected(held, "findings")


def test_rows_that_cannot_be_read_back_are_named_and_the_rest_is_there(written):
    with Ledger(written) as ledger:
        ledger.connection.execute("UPDATE studies SET rows = x'00' WHERE study_instance_uid = ?", (UIDS[1],))
        ledger.connection.execute("INSERT INTO fresh VALUES (?)", (UIDS[1],))
        assert tables.write(ledger, _listed(ledger), written) == (True, [UIDS[1]])
    held = {UIDS[0]: (2, 0), UIDS[2]: (2, 2)}
    assert (written / "findings.csv").read_bytes() == _expected(held, "findings")


def test_rows_come_back_as_the_lines_that_they_are():
    made = _rows("1.2", 3, 5)
    made["findings"][1][[c.name for c in COLUMNS["findings"]].index("contour")] = "no contour"
    kept = tablerows.unpacked(tablerows.packed(made))
    assert kept == tuple(lines(made[name], COLUMNS[name]) for name in tablerows.OF_A_STUDY)
    assert tablerows.instances(tablerows.packed(made)) == {"x"}


def test_a_row_without_all_cells_is_refused():
    with pytest.raises(ValueError, match="cells"):
        tablerows.packed({"images": [["one"]]})
