"""What goes wrong with one peer or one object costs that peer or that object, and is said in one line."""

import contextlib
import copy
import dataclasses
import hashlib
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from email.utils import formatdate

import pydicom
import pytest

from mammoscan.core import kinds
from mammoscan.core.console import Console
from mammoscan.core.errors import ExitCode, UsageError
from mammoscan.run.ledger import Ledger, Output
from mammoscan.send import dimse
from mammoscan.send.deliver import deliver
from mammoscan.send.destination import LONGEST_PAUSE, SendConfig, parse, title
from mammoscan.send.queue import PATIENCE
from tests.send.peers import Raw, Results, Scp, Web, free_port

ALL = tuple(kind.sop_class_uid for kind in kinds.KINDS)
NOWHERE = "does-not-exist.invalid"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Results of one study and of two, made once."""
    return {n: Results(tmp_path_factory.mktemp(f"results-{n}"), studies=n) for n in (1, 2)}


def _copy(results, folder):
    mine = copy.copy(results)
    mine.out = shutil.copytree(results.out, folder / "results")
    return mine


@pytest.fixture
def made(originals, tmp_path):
    return _copy(originals[1], tmp_path)


@pytest.fixture
def two(originals, tmp_path):
    return _copy(originals[2], tmp_path)


class Spoken(Console):
    """A console that keeps its lines."""

    def __init__(self):
        super().__init__(quiet=True)
        self.errors = []

    def error(self, text):
        self.errors.append(text)


def _deliver(made, *to, sleep=lambda _: None, **options):
    """The delivery, and the lines that the user sees."""
    options = {"attempts": 2, "backoff": 0.01, "timeout": 5.0, **options}
    config = SendConfig(destinations=tuple(parse(t) for t in to), **options)
    console = Spoken()
    with Ledger(made.out) as ledger:
        return deliver(ledger, made.out, config, console, sleep=sleep), console.errors


def _command(made, *arguments):
    command = [sys.executable, "-m", "mammoscan", "send", str(made.out), "--backoff", "0.01", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _objects(made):
    with Ledger(made.out) as ledger:
        return {made.out / found.path: found.sha256 for found in ledger.dicom_objects()}


def _studies(ledger):
    return sorted({found.study_instance_uid for found in ledger.dicom_objects()})


def _written(made, path, *, known=True):
    """Note in the state file that a result is as it is now. known: with its UIDs, which older state files lack."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with Ledger(made.out) as ledger:
        (uid,) = _studies(ledger)
        record = ledger.study(uid)
        (before,) = [output for output in record.outputs if made.out / output.path == path]
        after = dataclasses.replace(before, sha256=sha256) if known else Output(before.path, sha256)
        others = [output for output in record.outputs if output != before]
        ledger.record_study(uid, dataclasses.replace(record, outputs=(*others, after)))


def _no_results(db, study):
    """The objects of a study are results no more, and the queue does not know yet."""
    db.execute("DELETE FROM studies WHERE study_instance_uid = ?", (study,))
    db.execute("DELETE FROM outputs WHERE study_instance_uid = ?", (study,))


def _states(made, to):
    return {uid: state for destination, uid, state, *_ in made.queue() if destination == to}


# ------------------------------------------------------------------ peers


def _hangs(connection):
    time.sleep(60)


def _garbage(connection):
    connection.recv(10)
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 50)
    time.sleep(60)


def _endless_pdu(connection):
    connection.recv(10)
    connection.sendall(b"\x02\x00\x7f\xff\xff\xff" + b"\x00" * 100)
    time.sleep(60)


def _wrong_pdu(connection):
    """A P-DATA where the answer to the association belongs."""
    connection.recv(10)
    connection.sendall(b"\x04\x00\x00\x00\x00\x06\x00\x00\x00\x02\x01\x03")
    time.sleep(60)


def _closes(connection):
    connection.close()


@pytest.mark.parametrize("speak", [_hangs, _garbage, _endless_pdu, _wrong_pdu, _closes])
@pytest.mark.parametrize("form", ["X@127.0.0.1:{}", "http://127.0.0.1:{}/studies"])
def test_whoever_speaks_no_dicom_costs_one_line_and_the_next_peer_gets_its_objects(made, speak, form, capfd):
    with Raw(speak) as other, Scp(*ALL) as peer:
        to = form.format(other.port)
        began = time.monotonic()
        delivery, errors = _deliver(made, to, peer.to, timeout=1.0)
        assert time.monotonic() - began < 40
        assert len(peer.stored) == len(made.uids())
    assert (delivery.sent, delivery.unsent) == (len(made.uids()), len(made.uids()))
    (line,) = errors
    assert line.startswith(f"{to}: {len(made.uids())} of {len(made.uids())} objects are not sent: ")
    assert "check" in line
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("to", "cause"),
    [
        (f"X@{NOWHERE}:104", "cannot be resolved"),
        (f"http://{NOWHERE}/studies", "cannot be resolved"),
        ("X@two..dots:104", "no host name"),
        ("http://two..dots/studies", "no request can be made"),
        (f"X@{'a' * 70}.example:104", "no host name"),
        ("X@127.0.0.1:1", "no connection: Connection refused"),
        ("X@[::1]:1", "no connection"),
        ("http://127.0.0.1:1/studies", "no connection, or it was lost: Connection refused"),
        ("http://[::1]:1/studies", "no connection"),
        ("X@255.255.255.255:104", "no connection"),
        ("X@[ff02::1]:104", "no connection"),
    ],
)
def test_a_peer_that_cannot_be_reached_costs_one_line_and_the_next_gets_its_objects(made, to, cause, capfd):
    with Scp(*ALL) as peer:
        delivery, errors = _deliver(made, to, peer.to, timeout=2.0)
        assert len(peer.stored) == len(made.uids())
    assert (delivery.sent, delivery.unsent) == (len(made.uids()), len(made.uids()))
    (line,) = errors
    assert cause in line
    assert line.startswith(f"{to}: ")
    assert "(check " in line
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("web", [False, True])
def test_a_peer_without_tls_costs_one_line_with_its_cause(made, web):
    with Raw(_garbage) as other:
        to = f"https://127.0.0.1:{other.port}/studies" if web else f"X@127.0.0.1:{other.port}"
        delivery, (line,) = _deliver(made, to, tls=not web, timeout=2.0)
    assert delivery.unsent == len(made.uids())
    assert "TLS" in line
    assert "--tls-ca" in line


def test_a_peer_that_stops_reading_is_not_waited_for_for_ever(made):
    """It accepts the association and then lets a large object fill its buffers."""
    path = next(p for p in _objects(made) if p.name == "report-pdf.dcm")
    ds = pydicom.dcmread(path)
    ds.EncapsulatedDocument = bytes(16 << 20)
    ds.save_as(path)
    _written(made, path)

    def accept(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.recv(65536)
        # A-ASSOCIATE-AC that accepts context 1 in Explicit VR Little Endian (PS3.8 9.3.3).
        context = b"\x21\x00" + (4 + 4 + 19).to_bytes(2, "big") + b"\x01\x00\x00\x00"
        context += b"\x40\x00\x00\x13" + b"1.2.840.10008.1.2.1"
        name = b"1.2.840.10008.3.1.1.1"
        body = b"\x00\x01\x00\x00" + b"X".ljust(16) + b"MAMMOSCAN".ljust(16) + bytes(32)
        body += b"\x10\x00" + len(name).to_bytes(2, "big") + name + context
        body += b"\x50\x00\x00\x08\x51\x00\x00\x04\x00\x00\x40\x00"
        connection.sendall(b"\x02\x00" + len(body).to_bytes(4, "big") + body)
        time.sleep(120)

    with Raw(accept) as other:
        began = time.monotonic()
        _, errors = _deliver(made, f"X@127.0.0.1:{other.port}", timeout=1.0, attempts=1)
        assert time.monotonic() - began < 40
    assert "association was lost (check" in errors[-1]


def test_an_error_of_a_library_costs_that_peer_and_quotes_no_value(made, monkeypatch, caplog):
    value = "Doe^John"

    def fail(*_):
        raise TypeError(value)

    monkeypatch.setattr(dimse.Dimse, "_associate", fail)
    with Web() as web:
        delivery, (line,) = _deliver(made, "X@127.0.0.1:104", web.to)
        assert sorted(web.stored) == sorted(made.uids())
    assert delivery.sent == delivery.unsent == len(made.uids())
    assert "unexpected TypeError" in line
    assert "Doe" not in line + caplog.text


def test_ipv6_peers_are_reached_by_address_and_where_a_name_leads_to_both(made):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        peer = Scp(*ALL, host="::1").__enter__()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    try:
        delivery, errors = _deliver(made, peer.to, f"PACS@[::ffff:127.0.0.1]:{peer.port}")
        assert (delivery.sent, len(errors)) == (len(made.uids()), 1)  # the second is an IPv4 address, nobody is there
        both = {family for family, *_ in socket.getaddrinfo("localhost", peer.port, type=socket.SOCK_STREAM)}
        if socket.AF_INET6 in both:
            delivery, errors = _deliver(made, f"PACS@localhost:{peer.port}")
            assert (delivery.sent, errors) == (len(made.uids()), [])
    finally:
        peer.__exit__()


@pytest.mark.parametrize("to", [f"X@{NOWHERE}:104", f"http://{NOWHERE}/studies"])
def test_run_prints_its_summary_whatever_peers_do(tmp_path, to):
    from mammoscan.core.domain import Density, Laterality, View
    from mammoscan.synthetic import phantom
    from mammoscan.synthetic.dicom import Subject, file_bytes, mammogram_dataset

    archive = tmp_path / "archive"
    archive.mkdir()
    pixels, _ = phantom.render(phantom.Spec(Laterality.LEFT, View.CC, Density.B), 1)
    ds = mammogram_dataset(pixels, laterality=Laterality.LEFT, view=View.CC, subject=Subject("RUN-1"), spacing_mm=0.27)
    (archive / "1.dcm").write_bytes(file_bytes(ds))
    with Scp(*ALL) as peer:
        done = subprocess.run(
            [sys.executable, "-m", "mammoscan", "run", str(archive), "--out", str(tmp_path / "out"), "--json", "--quiet",
             "--settle-seconds", "0", "--attempts", "1", "--send-to", to, "--send-to", peer.to],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert len(peer.stored) == 4  # CAD, the outcome, the image's marks, the PDF
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["analysed"], summary["sent"], summary["unsent"]) == (1, 4, 4)
    assert "Traceback" not in done.stderr
    assert "cannot be resolved" in done.stderr


# ------------------------------------------------------------------ objects


def _remove(path):
    path.unlink()


def _change(path):
    path.write_bytes(path.read_bytes() + b"\x00\x00")


def _empty(path):
    path.write_bytes(b"")


def _folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [_remove, _change, _empty, _folder])
@pytest.mark.parametrize("queued", [False, True])
def test_a_missing_or_changed_object_costs_that_object_and_is_named_once(made, spoil, queued):
    first, *rest = _objects(made)
    dead = "X@127.0.0.1:1"
    if queued:
        _deliver(made, dead, attempts=1)
    spoil(first)
    with Scp(*ALL) as one, Web() as two:
        delivery, errors = _deliver(made, one.to, two.to)
        assert len(one.stored) == len(two.stored) == len(rest)
    assert (delivery.sent, delivery.unsent) == (2 * len(rest), 2)
    about = [line for line in errors if str(first) in line]
    assert len(about) == 1
    assert "run `mammoscan run` again" in about[0]
    assert [line for line in errors if line not in about] == [
        f"{to}: 1 of {len(rest) + 1} objects are not sent; they stay queued: run the same command again"
        for to in (one.to, two.to)
    ]


@pytest.mark.parametrize("content", [b"no DICOM object", b"", b"\0" * 128 + b"DICM" + b"\xff" * 64])
def test_an_object_that_is_none_costs_that_object(made, content):
    """Of a state file that was taken over: of what it holds today the UIDs were read before it was noted."""
    first, *rest = _objects(made)
    first.write_bytes(content)
    _written(made, first, known=False)
    with Scp(*ALL) as peer:
        delivery, errors = _deliver(made, peer.to)
        assert len(peer.stored) == len(rest)
    assert (delivery.sent, delivery.unsent) == (len(rest), 1)
    assert "no DICOM object" in errors[0]


def test_what_is_sent_already_is_not_opened_again(made):
    with Scp(*ALL) as peer:
        assert _deliver(made, peer.to)[0].unsent == 0
        for path in _objects(made):
            path.unlink()
        delivery, errors = _deliver(made, peer.to)
        assert (delivery.already, delivery.unsent, errors) == (len(made.uids()) or len(peer.stored), 0, [])


@pytest.mark.parametrize("state", ["queued", "sending", "refused"])
def test_an_object_whose_study_is_withdrawn_is_not_sent_whatever_its_state(two, state):
    made = two
    dead = f"X@127.0.0.1:{free_port()}"
    assert _deliver(made, dead, attempts=1)[0].unsent == len(made.uids())
    with Ledger(made.out) as ledger, ledger.connection as db:
        db.execute("UPDATE sends SET state = ?, refused = ?", (state, int(state == "refused")))
        _no_results(db, _studies(ledger)[0])
    with Scp(*ALL, port=int(dead.rpartition(":")[2])) as peer:
        delivery, errors = _deliver(made, dead, retry_refused=True)
        assert errors == []
        assert len(peer.offered) == delivery.sent == len(made.uids()) // 2
    assert len(_states(made, dead)) == len(made.uids()) // 2


def test_the_queue_of_an_older_version_is_taken_over(made):
    """Its table has no UIDs but the instance's: what is queued is sent, what was sent is not opened."""
    with Scp(*ALL) as peer:
        assert _deliver(made, peer.to)[0].unsent == 0
        old = ("destination", "sop_instance_uid", "sha256", "path", "state", "attempts", "detail", "committed")
        with contextlib.closing(sqlite3.connect(made.out / "ledger.sqlite")) as db, db:
            rows = db.execute(f"SELECT {', '.join(old)} FROM sends").fetchall()  # noqa: S608
            db.execute("DROP TABLE sends")
            db.execute(
                "CREATE TABLE sends (destination TEXT NOT NULL, sop_instance_uid TEXT NOT NULL, sha256 TEXT NOT NULL, "
                "path TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, "
                "detail TEXT NOT NULL DEFAULT '', committed INTEGER NOT NULL DEFAULT 0, "
                "PRIMARY KEY (destination, sop_instance_uid, sha256)) WITHOUT ROWID"
            )
            db.executemany(f"INSERT INTO sends VALUES ({', '.join('?' * len(old))})", rows)  # noqa: S608
            db.execute("UPDATE sends SET state = 'queued' WHERE path LIKE '%tid1500%'")
        queued = [path for path in _objects(made) if "tid1500" in path.name]
        assert len(queued) == 4, "the outcome, and the three images with marks"
        for path in _objects(made):
            if path not in queued:
                path.rename(path.with_suffix(".away"))
        peer.stored.clear()
        delivery, errors = _deliver(made, peer.to)
        assert errors == []
        assert peer.stored == [Scp.TID1500] * 4
        assert (delivery.sent, delivery.unsent) == (4, 0)


# ------------------------------------------------------------------ refusals


def test_a_class_that_the_peer_does_not_take_is_said_once_with_its_remedy(two):
    made = two
    others = [c for c in ALL if c != Scp.CAD]
    with Scp(*others) as peer:
        done = _command(made, "--to", peer.to)
        assert done.returncode == ExitCode.SOME_FAILED
        assert "refused and will not be sent again" in done.stderr
        assert "2 cad-sr: the peer does not accept this SOP class" in done.stderr
        assert "--write" in done.stderr
        assert "--retry-refused" in done.stderr
        assert len(peer.stored) == len(made.uids()) - 2
        again = _command(made, "--to", peer.to, "--quiet")
        assert (again.returncode, again.stdout, again.stderr) == (ExitCode.ALL_ANALYSED, "", "")
        spoken = _command(made, "--to", peer.to)
        assert (spoken.returncode, spoken.stdout) == (
            ExitCode.ALL_ANALYSED,
            f"sent now: 0; sent before: {len(peer.stored)}; not sent: 0; refused before: 2\n",
        )
        asked = _command(made, "--to", peer.to, "--retry-refused")
        assert (asked.returncode, "refused" in asked.stderr) == (ExitCode.SOME_FAILED, True)
        port = peer.port
    with Scp(*ALL, port=port) as peer:
        assert _command(made, "--to", peer.to, "--retry-refused").returncode == ExitCode.ALL_ANALYSED
        assert peer.stored == [Scp.CAD, Scp.CAD]


def test_a_new_study_brings_no_news_of_a_class_that_is_refused(two):
    made = two
    with Ledger(made.out) as ledger:
        later = _studies(ledger)[1]
        record = ledger.study(later)
        with ledger.connection as db:
            _no_results(db, later)
    with Scp(*(c for c in ALL if c != Scp.CAD)) as peer:
        assert _deliver(made, peer.to)[0].unsent == 1
        with Ledger(made.out) as ledger:
            ledger.record_study(later, record)
        delivery, errors = _deliver(made, peer.to)
        assert (delivery.unsent, delivery.refused, errors) == (0, 2, [])
        assert delivery.sent == len(made.uids()) // 2 - 1


def test_what_was_refused_is_tried_again_by_itself_after_some_calls(made):
    with Scp(*(c for c in ALL if c != Scp.CAD)) as peer:
        assert _deliver(made, peer.to)[0].unsent == 1
        port = peer.port
        for _ in range(2 * PATIENCE):
            delivery, errors = _deliver(made, peer.to)
            assert (delivery.sent, delivery.unsent, delivery.refused, errors) == (0, 0, 1, [])
    with Scp(*ALL, port=port) as peer:
        sent = [_deliver(made, peer.to)[0].sent for _ in range(PATIENCE)]
        assert sum(sent) == 1
        assert peer.stored == [Scp.CAD]


@pytest.mark.parametrize("status", [0x0111, 0x0117, 0x0122, 0x0124, 0xA900, 0xA9FF, 0xC000, 0xCFFF])
def test_a_status_for_good_refuses_the_object_and_the_others_are_sent(made, status):
    with Scp(*ALL, answers={Scp.CAD: status}) as peer:
        delivery, (line,) = _deliver(made, peer.to)
        assert f"1 cad-sr: status {status:04X}H" in line
        assert (delivery.sent, delivery.unsent) == (len(made.uids()) - 1, 1)
        assert len(peer.offered) == len(made.uids())
        assert _deliver(made, peer.to)[0].unsent == 0
        assert len(peer.offered) == len(made.uids())


@pytest.mark.parametrize("status", [0x0110, 0x0210, 0x0213, 0xA700, 0xA7FF, 0xFE00])
def test_any_other_status_leaves_the_object_queued(made, status):
    with Scp(*ALL, answers={Scp.CAD: status}) as peer:
        delivery, (line,) = _deliver(made, peer.to)
        assert f"status {status:04X}H" in line
        assert "they stay queued" in line
        assert delivery.unsent == 1
        peer.answers.clear()
        assert _deliver(made, peer.to)[0].sent == 1


@pytest.mark.parametrize("how", ["no class", "only verification", "every status"])
def test_a_peer_that_refuses_everything_is_set_up_wrongly_and_everything_stays_queued(made, how):
    options = {"no class": ("1.2.3.4",), "only verification": (), "every status": ALL}[how]
    with Scp(*options, answers=dict.fromkeys(ALL, 0x0124)) as peer:
        for _ in range(2):
            delivery, (line,) = _deliver(made, peer.to)
            assert (delivery.sent, delivery.unsent, delivery.refused) == (0, len(made.uids()), 0)
            assert "they stay queued" in line
            assert "check" in line
        port = peer.port
    with Scp(*ALL, port=port) as peer:
        assert _deliver(made, peer.to)[0].sent == len(made.uids())


def test_an_object_that_no_association_survives_does_not_keep_the_others(made):
    with Scp(*ALL, aborts={Scp.CAD}) as peer:
        delivery, (line,) = _deliver(made, peer.to)
        assert peer.offered[0] == Scp.CAD
        assert (delivery.sent, delivery.unsent) == (len(made.uids()) - 1, 1)
    assert "the association was lost" in line


# ------------------------------------------------------------------ STOW-RS


def _sizes(made):
    return sorted(path.stat().st_size for path in _objects(made))


def test_a_server_with_a_limit_gets_all_that_fits_one_by_one(made):
    limit = _sizes(made)[-1] + 1000
    with Web(lambda _, size: 413 if size > limit else None) as web:
        delivery, errors = _deliver(made, web.to)
        assert (delivery.sent, delivery.unsent, errors) == (len(made.uids()), 0, [])
        assert sorted(web.stored) == sorted(made.uids())
        assert _deliver(made, web.to)[0].already == len(made.uids())


def test_an_object_beyond_the_limit_of_a_server_is_refused_and_the_others_are_sent(made):
    limit = _sizes(made)[-1]
    with Web(lambda _, size: 413 if size > limit else None) as web:
        delivery, (line,) = _deliver(made, web.to)
        alone = [size for (*_, size), objects in zip(web.requests, web.batches, strict=True) if objects == 1]
        large = sum(size > limit for size in alone)
        assert 0 < large < len(made.uids())
        assert (delivery.sent, delivery.unsent) == (len(made.uids()) - large, large)
        assert "the server answers 413" in line
        assert "--write" in line
        posts = len(web.batches)
        delivery, errors = _deliver(made, web.to)
        assert (delivery.unsent, delivery.refused, errors, len(web.batches)) == (0, large, [], posts)


@pytest.mark.parametrize("status", [400, 409, 415, 422])
def test_a_batch_that_is_refused_for_one_object_costs_that_object(made, status):
    bad = min(made.uids())
    with Web(lambda uids, _: status if bad in uids else None) as web:
        delivery, (line,) = _deliver(made, web.to)
        assert sorted(web.stored) == sorted(made.uids() - {bad})
        assert (delivery.sent, delivery.unsent) == (len(made.uids()) - 1, 1)
        assert f"the server answers {status}" in line
        assert _deliver(made, web.to)[0].unsent == 0


def test_an_error_of_the_server_with_one_object_costs_that_object_for_the_time_being(made):
    bad = min(made.uids())
    with Web(lambda uids, _: 500 if bad in uids else None) as web:
        delivery, (line,) = _deliver(made, web.to)
        assert sorted(web.stored) == sorted(made.uids() - {bad})
        assert (delivery.sent, delivery.unsent) == (len(made.uids()) - 1, 1)
        assert "they stay queued" in line


def test_a_server_that_always_fails_is_not_asked_for_every_object(two):
    made = two
    with Web(lambda *_: 500) as web:
        delivery, (line,) = _deliver(made, web.to, attempts=1)
        assert delivery.unsent == len(made.uids())
        assert len(web.batches) < 10
    assert "500" in line


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_an_answer_about_us_ends_the_attempts(made, status):
    with Web(lambda *_: status) as web:
        delivery, (line,) = _deliver(made, web.to, attempts=5)
        assert (delivery.unsent, len(web.batches)) == (len(made.uids()), 1)
    assert f"the server answers {status}" in line
    assert "(check " in line


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["{there}", "/elsewhere/studies", "{there}/1.2.3?session=secret"])
def test_a_redirect_is_named_as_the_remedy_and_not_followed(made, tmp_path, status, place):
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with Web() as other:
        there = other.to.replace("127.0.0.1", "localhost")
        where = place.format(there=there)
        with Web(lambda *_: (status, {"Location": where})) as web:
            delivery, (line,) = _deliver(made, web.to, token_file=token, attempts=3)
            assert delivery.unsent == len(made.uids())
            assert [method for method, *_ in web.requests] == ["POST"]
        assert other.requests == []
        shown = there if place != "/elsewhere/studies" else web.to.replace("/dicom-web", "/elsewhere")
        assert f"send to {shown} instead" in line
        assert "secret" not in line


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_that_asks_to_wait_is_waited_for(made, status, form):
    waits, answers = [], []

    def refuse(*_):
        said = "30" if form == "seconds" else formatdate(time.time() + 31, usegmt=True)
        answers.append((status, {"Retry_After": said}))
        return answers[-1] if len(answers) == 1 else None

    with Web(refuse) as web:
        delivery, errors = _deliver(made, web.to, sleep=waits.append)
        assert (delivery.sent, errors) == (len(made.uids()), [])
    assert len(waits) == 1
    assert 29 <= waits[0] <= 31


@pytest.mark.parametrize("said", ["", "soon", "-5", "1e9", "²", "Wed, 99 Foo 2020"])
def test_a_wait_that_cannot_be_read_is_the_usual_one(made, said):
    waits = []
    with Web(lambda *_: (503, {"Retry_After": said.encode("latin-1", "replace").decode("latin-1")})) as web:
        _deliver(made, web.to, attempts=3, backoff=1.0, sleep=waits.append)
    assert waits == [1, 2]


def test_a_server_that_asks_for_hours_is_left_alone_until_the_next_call(made):
    waits = []
    with Web(lambda *_: (503, {"Retry_After": str(int(LONGEST_PAUSE) + 1)})) as web:
        delivery, (line,) = _deliver(made, web.to, attempts=5, sleep=waits.append)
        assert (delivery.unsent, waits, len(web.batches)) == (len(made.uids()), [], 1)
    assert f"wait for {LONGEST_PAUSE + 1:.0f} seconds" in line


@pytest.mark.parametrize("kind", ["application/dicom+xml", "text/html"])
def test_answers_that_do_not_speak_of_objects_are_settled_by_asking(made, kind):
    with Web(kind=kind) as web:
        delivery, errors = _deliver(made, web.to)
        assert (delivery.sent, errors) == (len(made.uids()), [])
        assert len(web.stored) == len(made.uids())


# ------------------------------------------------------------------ usage errors

TITLES = ["MAMMOSCAN_WORKSTATION", "", "   ", "A\\B", "A\nB", "A\x7fB", "ÄRZTE", "A" * 17]


@pytest.mark.parametrize("text", TITLES)
def test_what_is_no_title_is_refused_wherever_it_is_given(text):
    with pytest.raises(UsageError, match="AE title"):
        title(text)
    with pytest.raises(UsageError, match="AE title"):
        SendConfig(calling=text)
    with pytest.raises(UsageError, match=r"AE@host:port"):
        parse(f"{text}@host:104")


def test_a_title_may_have_sixteen_letters_and_spaces_around_it():
    assert title("  " + "A" * 16 + " ") == "A" * 16
    assert title("MY PACS") == "MY PACS"


@pytest.mark.parametrize("text", ["http://[::1/studies", "http://h:99999/studies", "http://h:x/studies",
                                  "http://h\n/studies", "https://:secret@h/studies", "X@h\x00:1\n"])  # fmt: skip
def test_an_address_that_cannot_be_split_is_a_usage_error(text):
    with pytest.raises(UsageError, match=r"AE@host:port") as caught:
        parse(text)
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("command", ["run", "send"])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--calling", "MAMMOSCAN_WORKSTATION"), "--calling"),
        (("--calling", ""), "--calling"),
        (("--to", "THIS_PACS_HAS_A_LONG_TITLE@127.0.0.1:104"), "AE title"),
        (("--token-file", "bad-token"), "token"),
        (("--tls-ca", "bad-token"), "--tls-ca"),
        (("--tls-cert", "bad-token"), "--tls-cert"),
    ],
)
def test_options_that_cannot_be_used_are_usage_errors_before_anything_is_done(tmp_path, command, arguments, named):
    (tmp_path / "bad-token").write_text("two words\n")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "1.dcm").write_bytes(b"no DICOM")
    out = tmp_path / "out"
    start = ["run", str(tmp_path / "archive"), "--out", str(out)] if command == "run" else ["send", str(tmp_path)]
    to = "--send-to" if command == "run" else "--to"
    given = [to if a == "--to" else a for a in arguments]
    if to not in given:
        given += [to, "PACS@127.0.0.1:104"]
    done = subprocess.run(
        [sys.executable, "-m", "mammoscan", *start, *given], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
