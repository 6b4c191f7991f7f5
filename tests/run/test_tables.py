"""Tables that are changed where they changed are the tables that would be written anew."""

import contextlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscan.core import store
from mammoscan.core.tableforms import FORMS, PLAIN
from mammoscan.report.tables import COLUMNS, header_line, lines, rows_of
from mammoscan.run import tablerows, tables
from mammoscan.run.inventory import Line, Status
from mammoscan.run.ledger import Ledger, Output, StudyRecord


class _Listed:
    """An inventory of some files."""

    def __init__(self, count=2):
        self.count = count

    def lines(self):
        for number in range(self.count):
            yield Line(f'{number}, "x".dcm', number, Status.ANALYSED, "", "", "", "1.2", f"1.2.{number}")


def _rows(uid, findings, mark):
    """Rows of a study; ``mark`` makes them others of the same or another length."""
    made = {
        name: [["x"] * len(COLUMNS[name]) for _ in range(n)]
        for name, n in (("images", 2), ("findings", findings), ("studies", 1))
    }
    for name, found in made.items():
        names = [c.name for c in COLUMNS[name]]
        for number, row in enumerate(found):
            row[names.index("study_instance_uid")] = uid
            row[names.index("patient_id")] = f"=P, {mark}\n"
            if "study_date" in names:
                row[names.index("study_date")] = "20260131"
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
def test_tables_that_are_spliced_are_those_that_are_written_whole(tmp_path_factory, ops):
    out = tmp_path_factory.mktemp("out")
    held, stack, form = {}, contextlib.ExitStack(), PLAIN
    ledger = stack.enter_context(Ledger(out))
    for op, *what in (*ops, ("write",), ("write",)):
        if op == "record":
            uid, findings, mark = what
            _record(ledger, uid, findings, mark)
            held[uid] = (findings, mark)
        elif op == "withdraw":
            ledger.withdraw(what[0], "mixed-patients")
            held.pop(what[0], None)
        elif op == "form":
            form = FORMS[what[0]]
        elif op == "write":
            tables.write(ledger, _Listed(), out, form)
            for name in tablerows.OF_A_STUDY:
                assert (out / f"{name}.csv").read_bytes() == _expected(held, name, form), name
            assert [row["path"] for row in rows_of(out / "files.csv")] == ['0, "x".dcm', '1, "x".dcm']
            assert tables.current(ledger, out, form)
            assert not any(tables.current(ledger, out, other) for other in FORMS.values() if other != form)
            first = sorted(held, key=lambda uid: (-held[uid][1], uid))[: tables.MOST_SUSPICIOUS]
            assert [study.study_instance_uid for study in tables.most_suspicious(ledger, out)] == first
        elif op == "touch" and (out / f"{what[0]}.csv").exists():
            (out / f"{what[0]}.csv").write_bytes(b"somebody's notes")
        elif op == "lose":
            (out / f"{what[0]}.csv").unlink(missing_ok=True)
        elif op == "reopen":
            stack.close()
            ledger = stack.enter_context(Ledger(out))
    stack.close()
    assert not list(out.glob(f"{store.TEMPORARY_PREFIX}*"))


@pytest.fixture
def written(tmp_path):
    """Tables of three studies."""
    with Ledger(tmp_path) as ledger:
        for number, uid in enumerate(UIDS[:3]):
            _record(ledger, uid, 2, number)
        assert tables.write(ledger, _Listed(), tmp_path) == (True, [])
    return tmp_path


def test_a_study_that_was_made_again_with_the_same_rows_replaces_no_table(written):
    before = {p.name: p.stat() for p in written.glob("*.csv")}
    with Ledger(written) as ledger:
        assert tables.current(ledger, written)
        _record(ledger, UIDS[1], 2, 1)
        tables.outdated(ledger)
        assert not tables.current(ledger, written)
        assert tables.write(ledger, _Listed(), written) == (False, [])
        assert tables.current(ledger, written)
    assert {p.name: p.stat() for p in written.glob("*.csv")} == before


def test_only_the_table_that_differs_is_replaced(written):
    before = {p.name: p.stat().st_ino for p in written.glob("*.csv")}
    with Ledger(written) as ledger:
        tables.write(ledger, _Listed(3), written)
    assert {n for n in before if (written / n).stat().st_ino != before[n]} == {"files.csv"}


def test_a_write_that_fails_leaves_the_old_tables_and_is_made_up_for(written, monkeypatch):
    before = {p.name: p.read_bytes() for p in written.glob("*.csv")}
    with Ledger(written) as ledger:
        _record(ledger, UIDS[1], 3, 7)

    def full(*_):
        raise OSError(28, "No space left on device")

    def fail():
        with Ledger(written) as ledger:
            tables.write(ledger, _Listed(), written)

    with monkeypatch.context() as patch:
        patch.setattr(os, "sendfile", full)
        with pytest.raises(OSError, match="No space"):
            fail()
    assert {p.name: p.read_bytes() for p in written.iterdir() if p.suffix == ".csv"} == before
    assert not list(written.glob(f"{store.TEMPORARY_PREFIX}*"))
    with Ledger(written) as ledger:
        assert tables.write(ledger, _Listed(), written) == (True, [])
    held = {UIDS[0]: (2, 0), UIDS[1]: (3, 7), UIDS[2]: (2, 2)}
    assert (written / "findings.csv").read_bytes() == _expected(held, "findings")


def test_rows_that_cannot_be_read_back_are_named_and_the_rest_is_there(written):
    with Ledger(written) as ledger:
        ledger.connection.execute("UPDATE studies SET rows = x'00' WHERE study_instance_uid = ?", (UIDS[1],))
        ledger.connection.execute("INSERT INTO fresh VALUES (?)", (UIDS[1],))
        assert tables.write(ledger, _Listed(), written) == (True, [UIDS[1]])
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
