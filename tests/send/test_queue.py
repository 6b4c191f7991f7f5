"""The queue: what it takes up, hands out and forgets, whatever the number of objects and the size of its pages."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mammoscan.core.console import Console
from mammoscan.send import queue
from mammoscan.send.deliver import Delivery, deliver
from mammoscan.send.destination import SendConfig, parse
from mammoscan.send.objects import ResultObject
from mammoscan.send.queue import Filled, Queue, State
from mammoscan.send.transport import Item

HERE, THERE = "HERE@127.0.0.1:1", "THERE@127.0.0.1:1"
FOLDER = Path("/results")


@pytest.fixture
def db():
    connection = sqlite3.connect(":memory:")
    queue.start(connection)
    yield connection
    connection.close()


def _result(number, content=0, *, known=True):
    """The object at a path; the same instance with another content."""
    uids = ("1.2", f"1.3.{number}", "1.4", f"1.5.{number // 2}") if known else ()
    return ResultObject(f"studies/{number // 2}/{number:02d}.dcm", f"{number}-{content}", *uids)


def _read(path, sha256):
    number = int(Path(path).stem)
    return Item(FOLDER / path, path, sha256, *_result(number)[2:])


def _no_reading(path, sha256):
    raise AssertionError(f"{path} was opened")


def _rows(db, destination=HERE):
    found = db.execute("SELECT path, sha256, state FROM sends WHERE destination = ?", (destination,))
    return {(path, sha256): state for path, sha256, state in found}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    before=st.dictionaries(st.integers(0, 12), st.integers(0, 2)),
    states=st.lists(st.sampled_from(State), min_size=13, max_size=13),
    after=st.dictionaries(st.integers(0, 12), st.integers(0, 2)),
    known=st.booleans(),
    page=st.integers(1, 5),
)
def test_a_queue_holds_the_results_of_now_and_what_was_sent(monkeypatch, before, states, after, known, page):
    monkeypatch.setattr(queue, "PAGE", page)
    db = sqlite3.connect(":memory:")
    queue.start(db)
    for destination in (HERE, THERE):
        Queue(db, destination, FOLDER).fill((_result(n, c) for n, c in sorted(before.items())), _no_reading)
    for n in before:
        db.execute("UPDATE sends SET state = ? WHERE sop_instance_uid = ?", (states[n].value, f"1.3.{n}"))
    elsewhere = _rows(db, THERE)
    mine = Queue(db, HERE, FOLDER)
    filled = mine.fill((_result(n, c, known=known) for n, c in sorted(after.items())), _read)
    assert filled == Filled(len(after), len(after))
    expected = {_result(n, c)[:2]: states[n].value for n, c in before.items() if states[n] is State.SENT}
    expected |= {_result(n, c)[:2]: states[n].value if before.get(n) == c else "queued" for n, c in after.items()}
    assert _rows(db) == expected
    assert _rows(db, THERE) == elsewhere
    for state in (State.QUEUED, State.SENDING, State.REFUSED):
        waiting = [(item.relative, item.sha256) for item in mine.waiting(state)]
        assert waiting == sorted(key for key, held in expected.items() if held == state.value)
        assert mine.unsent()[state] == len(waiting)
    now = {_result(n, c)[:2] for n, c in after.items()}
    asked = [(item.relative, item.sha256) for some in mine.uncommitted() for item in some]
    assert sorted(asked) == sorted(key for key, held in expected.items() if held == "sent" and key in now)
    db.close()


def test_results_out_of_order_are_an_error_and_nothing_is_taken_for_departed(db):
    mine = Queue(db, HERE, FOLDER)
    mine.fill([_result(1), _result(2)], _no_reading)
    with pytest.raises(ValueError, match="out of order"):
        mine.fill([_result(2), _result(1)], _no_reading)
    assert len(_rows(db)) == 2


def test_an_object_is_read_only_where_nobody_knows_its_uids(db):
    read = []

    def reading(path, sha256):
        read.append(path)
        return _read(path, sha256)

    Queue(db, HERE, FOLDER).fill([_result(1), _result(2, known=False)], reading)
    assert read == [_result(2).path]
    Queue(db, THERE, FOLDER).fill([_result(1, known=False), _result(2, known=False)], reading)
    assert read == [_result(2).path]


def test_an_object_that_cannot_be_read_is_not_held_and_not_read_for_the_next_destination(db):
    mine = Queue(db, HERE, FOLDER)
    assert mine.fill([_result(1, known=False)], lambda path, _: mine.lose(path) and None) == Filled(1, 0)
    assert Queue(db, THERE, FOLDER).fill([_result(1, known=False)], _no_reading) == Filled(1, 0)


def test_a_renamed_object_is_the_same_object(db):
    mine = Queue(db, HERE, FOLDER)
    mine.fill([_result(1), _result(2)], _no_reading)
    db.execute("UPDATE sends SET state = 'sent'")
    moved = [result._replace(path=f"studies/{path}.dcm") for path, result in (("0", _result(2)), ("9", _result(1)))]
    assert mine.fill(moved, _no_reading) == Filled(2, 2)
    assert _rows(db) == {result[:2]: "sent" for result in moved}


def test_what_is_marked_while_it_is_handed_out_comes_once(db, monkeypatch):
    monkeypatch.setattr(queue, "PAGE", 2)
    mine = Queue(db, HERE, FOLDER)
    mine.fill(map(_result, range(7)), _no_reading)
    seen = []
    for item in mine.waiting(State.QUEUED):
        seen.append(item.relative)
        mine.mark([item], State.SENDING)
        mine.mark([item], State.SENT if len(seen) % 2 else State.QUEUED)
    assert seen == [_result(n).path for n in range(7)]
    assert mine.left() == 3


def test_paths_are_forgotten_and_counted_and_what_was_sent_stays_known(db):
    for destination, some in ((HERE, range(4)), (THERE, range(2))):
        Queue(db, destination, FOLDER).fill(map(_result, some), _no_reading)
    db.execute("UPDATE sends SET state = 'sent' WHERE sop_instance_uid <> '1.3.1'")
    paths = [_result(n).path for n in range(3)]
    assert queue.sent_counts(db, paths) == {HERE: 2, THERE: 1}
    queue.forget(db, paths)
    assert set(_rows(db)) == {_result(n)[:2] for n in (0, 2, 3)}
    assert set(_rows(db, THERE)) == {_result(0)[:2]}


def test_forgetting_belongs_to_the_transaction_around_it(db):
    Queue(db, HERE, FOLDER).fill([_result(1)], _no_reading)
    queue.forget(db, [_result(1).path])
    db.rollback()
    assert len(_rows(db)) == 1


def test_a_state_file_from_which_nothing_was_sent_gets_no_table_by_asking():
    db = sqlite3.connect(":memory:")
    queue.forget(db, ["a"])
    assert queue.sent_counts(db, ["a"]) == {}
    assert db.execute("SELECT * FROM sqlite_master").fetchall() == []
    db.close()


def test_the_table_of_an_older_version_is_forgotten_and_counted_too():
    db = sqlite3.connect(":memory:")
    db.execute(
        "CREATE TABLE sends (destination TEXT NOT NULL, sop_instance_uid TEXT NOT NULL, sha256 TEXT NOT NULL, "
        "path TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, detail TEXT NOT NULL DEFAULT '', "
        "committed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (destination, sop_instance_uid, sha256)) WITHOUT ROWID"
    )
    rows = [(HERE, f"1.3.{n}", *reversed(_result(n)[:2]), state) for n, state in ((1, "sent"), (2, "queued"))]
    db.executemany(
        "INSERT INTO sends (destination, sop_instance_uid, sha256, path, state) VALUES (?, ?, ?, ?, ?)", rows
    )
    queue.forget(db, [_result(1).path, _result(2).path])
    assert queue.sent_counts(db, [_result(1).path, _result(2).path]) == {HERE: 1}
    assert set(_rows(db)) == {_result(1)[:2]}
    db.close()


@dataclass
class _Stated:
    """Results as a state file tells them, without any file."""

    connection: sqlite3.Connection
    held: list

    def dicom_objects(self):
        return iter(self.held)


def _deliver(db, held, **options):
    config = SendConfig(destinations=(parse(HERE),), attempts=1, **options)
    return deliver(_Stated(db, held), FOLDER, config, Console(quiet=True))


def test_a_call_with_nothing_new_turns_to_no_peer_and_writes_nothing(db, monkeypatch):
    held = [_result(n, known=n % 2 == 0) for n in range(6)]
    Queue(db, HERE, FOLDER).fill(held, _read)
    db.execute("UPDATE sends SET state = 'sent'")
    db.commit()
    monkeypatch.setattr("mammoscan.send.deliver._transport", lambda *_: pytest.fail("a peer was turned to"))
    before = "\n".join(db.iterdump())
    assert _deliver(db, held) == Delivery(sent=0, already=6, unsent=0, refused=0)
    assert "\n".join(db.iterdump()) == before


class _Keeper:
    """A peer that takes everything and commits to what ``says`` says of a page's UIDs."""

    def __init__(self, says):
        self.says, self.asked = says, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def send(self, parcels):
        assert not list(parcels)
        return iter(())

    def has(self, _):
        return None

    def commit(self, items):
        self.asked.append([item.sop_instance_uid for item in items])
        return {uid: self.says(uid) for uid in self.asked[-1] if self.says(uid) is not None}


@pytest.mark.parametrize(
    ("says", "pages", "committed"),
    [(lambda _: True, 3, 5), (lambda _: None, 1, 0), (lambda uid: uid != "1.3.2", 3, 4)],
)
def test_commitment_is_asked_for_in_pages_until_a_peer_says_nothing(db, monkeypatch, says, pages, committed):
    monkeypatch.setattr(queue, "PAGE", 2)
    held = [_result(n) for n in range(5)]
    gone = _result(7)
    Queue(db, HERE, FOLDER).fill([*held, gone], _no_reading)
    db.execute("UPDATE sends SET state = 'sent'")
    peer = _Keeper(says)
    monkeypatch.setattr("mammoscan.send.deliver._transport", lambda *_: peer)
    delivery = _deliver(db, held, commit_port=1)
    assert len(peer.asked) == pages
    assert not any(gone.sop_instance_uid in some for some in peer.asked)
    assert db.execute("SELECT COUNT(*) FROM sends WHERE committed = 1").fetchone() == (committed,)
    lost = [path for (path, _), state in _rows(db).items() if state == "queued"]
    assert lost == [r.path for r in held if says(r.sop_instance_uid) is False]
    assert delivery.unsent == len(lost)
