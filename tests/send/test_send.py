"""Each result arrives once, whatever peers and this program do in between."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time

import pydicom
import pytest
import requests

from mammoscan.core.console import Console
from mammoscan.core.errors import ExitCode, UsageError
from mammoscan.run.ledger import Ledger
from mammoscan.send.deliver import deliver
from mammoscan.send.destination import LONGEST_WAIT, SendConfig, parse
from tests.send.peers import ORTHANC, STORESCP, Gateway, Orthanc, Results, StoreScp, free_port


@pytest.fixture
def made(tmp_path):
    return Results(tmp_path)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as peer:
        yield peer


@pytest.fixture
def empty_orthanc(orthanc):
    for study in orthanc.get("studies"):
        requests.delete(f"http://127.0.0.1:{orthanc.http}/studies/{study}", timeout=60).raise_for_status()
    requests.delete(f"http://127.0.0.1:{orthanc.http}/changes", timeout=60).raise_for_status()
    return orthanc


def _deliver(made, *to, sleep=time.sleep, **options):
    options = {"attempts": 2, "backoff": 0.01, "timeout": 10.0, **options}
    config = SendConfig(destinations=tuple(parse(t) for t in to), **options)
    with Ledger(made.out) as ledger:
        return deliver(ledger, made.out, config, Console(quiet=True), sleep=sleep)


def _command(made, *arguments):
    return [sys.executable, "-m", "mammoscan", "send", str(made.out), *map(str, arguments)]


@pytest.mark.parametrize(
    ("text", "title", "host", "port"),
    [
        ("PACS@pacs.example:11112", "PACS", "pacs.example", 11112),
        ("MY PACS@10.0.0.1:104", "MY PACS", "10.0.0.1", 104),
        ("P@[::1]:104", "P", "::1", 104),
    ],
)
def test_a_dicom_destination_is_title_host_and_port(text, title, host, port):
    made = parse(text)
    assert (made.title, made.host, made.port, made.url) == (title, host, port, "")


@pytest.mark.parametrize(
    "text",
    ["", "host:104", "AE@host", "AE@host:0", "AE@host:70000", "SEVENTEEN_LETTERS@h:104", "ftp://h/studies",
     "https://h/dicom-web", "https://me:secret@h/studies", "AE@:104"],
)  # fmt: skip
def test_anything_else_is_an_error_that_says_what_to_give(text):
    with pytest.raises(UsageError, match=r"AE@host:port") as caught:
        parse(text)
    assert "secret" not in str(caught.value)


@ORTHANC
@pytest.mark.outside
@pytest.mark.parametrize("way", ["dimse", "web"])
def test_orthanc_gets_every_object_once_and_byte_for_byte_the_same_values(made, empty_orthanc, way):
    to = getattr(empty_orthanc, way)
    first = _deliver(made, to)
    assert (first.sent, first.already, first.unsent) == (len(made.uids()), 0, 0)
    assert empty_orthanc.instances() == made.uids()
    before = (made.out / "ledger.sqlite").read_bytes()
    second = _deliver(made, to)
    assert (second.sent, second.already, second.unsent) == (0, len(made.uids()), 0)
    assert (made.out / "ledger.sqlite").read_bytes() == before
    assert empty_orthanc.arrivals() == len(made.uids())
    for path in made.out.rglob("*.dcm"):
        ours = pydicom.dcmread(path)
        (found,) = [i for i in empty_orthanc.get("instances?expand")
                    if i["MainDicomTags"]["SOPInstanceUID"] == ours.SOPInstanceUID]  # fmt: skip
        theirs = requests.get(f"http://127.0.0.1:{empty_orthanc.http}/instances/{found['ID']}/file", timeout=60)
        import io

        assert pydicom.dcmread(io.BytesIO(theirs.content)) == ours


@STORESCP
@pytest.mark.outside
def test_one_association_serves_all_objects(made, tmp_path):
    with StoreScp(tmp_path / "scp") as peer:
        assert _deliver(made, peer.to).unsent == 0
        assert sorted(peer.requests()) == sorted(made.uids())
        assert peer.associations() == 1


@STORESCP
@pytest.mark.outside
def test_a_peer_that_knows_only_implicit_vr_gets_implicit_vr(made, tmp_path):
    with StoreScp(tmp_path / "scp", "+xi") as peer:
        assert _deliver(made, peer.to).unsent == 0
        files = list(peer.received.iterdir())
        assert len(files) == len(made.uids())
        assert {pydicom.dcmread(p).file_meta.TransferSyntaxUID for p in files} == {"1.2.840.10008.1.2"}


@STORESCP
@pytest.mark.outside
def test_a_peer_that_refuses_leaves_everything_queued_and_status_one(made, tmp_path):
    with StoreScp(tmp_path / "scp", "--refuse") as peer:
        done = subprocess.run(
            _command(made, "--to", peer.to, "--attempts", 2, "--backoff", 0.01),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    assert "not sent" in done.stderr
    assert "Traceback" not in done.stderr
    assert {row[2] for row in made.queue()} == {"queued"}


def test_nobody_there_is_tried_with_growing_waits_and_leaves_everything_queued(made):
    waits = []
    delivery = _deliver(made, f"X@127.0.0.1:{free_port()}", attempts=8, backoff=1.0, sleep=waits.append)
    assert delivery.unsent == len(made.uids())
    assert waits == [1, 2, 4, 8, 16, 32, LONGEST_WAIT]


@STORESCP
@pytest.mark.outside
@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_a_peer_that_aborts_every_store_leaves_objects_queued_or_in_doubt(made, tmp_path, option):
    with StoreScp(tmp_path / "scp", option) as peer:
        assert _deliver(made, peer.to, attempts=2).unsent == len(made.uids())
    assert {row[2] for row in made.queue()} <= {"queued", "sending"}
    with StoreScp(tmp_path / "well") as peer:
        assert _deliver(made, peer.to).unsent == 0


@STORESCP
@pytest.mark.outside
def test_a_slow_peer_is_waited_for_and_one_slower_than_the_limit_is_not(made, tmp_path):
    with StoreScp(tmp_path / "slow", "--sleep-during", "1") as peer:
        began = time.monotonic()
        assert _deliver(made, peer.to, timeout=0.4, attempts=1).unsent > 0
        assert time.monotonic() - began < 15
    with StoreScp(tmp_path / "waited-for", "--sleep-after", "1") as peer:
        assert _deliver(made, peer.to, timeout=30.0, attempts=1).unsent == 0


@STORESCP
@pytest.mark.outside
def test_a_peer_that_dies_in_the_middle_gets_the_rest_when_it_is_back(tmp_path):
    made = Results(tmp_path, studies=2)
    with StoreScp(tmp_path / "scp", "--sleep-after", "1") as peer:
        process = subprocess.Popen(
            _command(made, "--to", peer.to, "--attempts", 6, "--backoff", 0.5, "--timeout", 5),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while len(peer.requests()) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        peer.process.kill()
        peer.process.wait()
        early = peer.requests()
    with StoreScp(tmp_path / "back", port=peer.port) as back:
        said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        late = back.requests()
    assert set(early) | set(late) == made.uids()
    assert len(late) == len(set(late))
    # Only the one that was under way when the peer died may have come twice: a storescp can't be asked.
    assert len(set(early) & set(late)) <= 1
    assert len(early) >= 3


@ORTHANC
@pytest.mark.outside
@pytest.mark.parametrize("way", ["dimse", "web"])
def test_killed_in_the_middle_it_goes_on_and_sends_nothing_twice(tmp_path, empty_orthanc, way):
    made = Results(tmp_path, studies=4)
    to = getattr(empty_orthanc, way)
    process = subprocess.Popen(_command(made, "--to", to, "--quiet"), start_new_session=True)
    deadline = time.monotonic() + 60
    while not empty_orthanc.get("instances") and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    there = len(empty_orthanc.get("instances"))
    assert 0 < there < len(made.uids())
    assert subprocess.run(_command(made, "--to", to, "--quiet"), check=False).returncode == 0
    assert empty_orthanc.instances() == made.uids()
    # Each was handed over once; of those in doubt only what Orthanc did not have was handed over again.
    again = sum(attempts - 1 for *_, attempts, _ in made.queue())
    assert empty_orthanc.arrivals() == len(made.uids())
    assert "already stored" not in (empty_orthanc.folder / "log").read_text().lower()
    assert again <= 20


@ORTHANC
@pytest.mark.outside
def test_what_is_in_doubt_is_asked_for_and_not_sent_again(made, empty_orthanc):
    for to in (empty_orthanc.dimse, empty_orthanc.web):
        assert _deliver(made, to).unsent == 0
        with Ledger(made.out) as ledger, ledger.connection as db:
            db.execute("UPDATE sends SET state = 'sending' WHERE destination = ?", (to,))
        assert _deliver(made, to).unsent == 0
        assert {(row[2], row[3]) for row in made.queue() if row[0] == to} == {("sent", 1)}


@ORTHANC
@pytest.mark.outside
def test_a_changed_object_is_sent_again_and_a_withdrawn_one_no_longer(made, empty_orthanc):
    dead = f"X@127.0.0.1:{free_port()}"
    assert _deliver(made, dead, attempts=1).unsent == len(made.uids())
    assert _deliver(made, empty_orthanc.dimse).unsent == 0
    with Ledger(made.out) as ledger:
        (uid,) = {found.study_instance_uid for found in ledger.dicom_objects()}
        record = ledger.study(uid)
        (gone,) = [output for output in record.outputs if "overlay-01" in output.path]
        (changed,) = [output for output in record.outputs if output.path.endswith("report-pdf.dcm")]
        (made.out / gone.path).unlink()
        ds = pydicom.dcmread(made.out / changed.path)
        ds.DocumentTitle = "Changed"
        ds.save_as(made.out / changed.path)
        sha256 = hashlib.sha256((made.out / changed.path).read_bytes()).hexdigest()
        others = [output for output in record.outputs if output not in (gone, changed)]
        outputs = (*others, dataclasses.replace(changed, sha256=sha256))
        ledger.record_study(uid, dataclasses.replace(record, key="new", outputs=outputs))
    assert _deliver(made, empty_orthanc.dimse).sent == 1
    assert _deliver(made, dead, attempts=1).unsent == len(outputs) - 1  # the PDF for people is not sent


@ORTHANC
@pytest.mark.outside
def test_storage_commitment_is_taken_where_the_peer_offers_it(made, tmp_path):
    port = free_port()
    more = {"DicomModalities": {"us": {"AET": "MAMMOSCAN", "Host": "127.0.0.1", "Port": port,
                                       "AllowStorageCommitment": True}}}  # fmt: skip
    with Orthanc(tmp_path / "orthanc", **more) as peer:
        delivery = _deliver(made, peer.dimse, commit_port=port)
        assert delivery.unsent == 0
        assert {(row[2], row[4]) for row in made.queue()} == {("sent", 1)}


@ORTHANC
@pytest.mark.outside
def test_without_storage_commitment_what_is_stored_is_sent(made, empty_orthanc):
    assert _deliver(made, empty_orthanc.dimse, timeout=2.0).unsent == 0
    assert {(row[2], row[4]) for row in made.queue()} == {("sent", 0)}


def test_an_object_that_the_peer_does_not_commit_to_is_sent_again(made):
    """A peer made here, since none outside loses objects on demand: it reports the first commitment as failed."""
    from pydicom import Dataset
    from pydicom.sequence import Sequence
    from pynetdicom import AE, StoragePresentationContexts, evt

    stored, asked = [], []

    def store(event):
        stored.append(event.request.AffectedSOPInstanceUID)
        return 0

    def action(event):
        info = event.action_information
        asked.append(len(info.ReferencedSOPSequence))
        return 0, None

    def reported(event):
        # After the N-ACTION response, on the same association (PS3.4 J.3.3).
        import threading

        if event.message.__class__.__name__ != "N_ACTION_RSP":
            return
        request = waiting.pop()

        def tell():
            time.sleep(0.1)
            said = Dataset()
            said.TransactionUID = request.TransactionUID
            items = list(request.ReferencedSOPSequence)
            if len(asked) == 1:
                for item in items[:2]:
                    item.FailureReason = 0x0110
                said.FailedSOPSequence = Sequence(items[:2])
                items = items[2:]
            said.ReferencedSOPSequence = Sequence(items)
            event.assoc.send_n_event_report(
                said, 2 if len(asked) == 1 else 1, "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
            )

        threading.Thread(target=tell, daemon=True).start()

    waiting = []

    def keep(event):
        waiting.append(event.action_information)
        return action(event)

    ae = AE(ae_title="KEEPER")
    ae.supported_contexts = StoragePresentationContexts
    for uid in ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.50", "1.2.840.10008.1.20.1"):
        ae.add_supported_context(uid)
    port = free_port()
    handlers = [(evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, keep), (evt.EVT_DIMSE_SENT, reported)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        assert _deliver(made, f"KEEPER@127.0.0.1:{port}", attempts=3).unsent == 0
    finally:
        server.shutdown()
    assert len(asked) == 2
    assert len(stored) == len(made.uids()) + 2
    assert {row[4] for row in made.queue()} == {1}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate authority, a server's and a client's certificate, made with openssl."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=test authority")  # fmt: skip
    for name in ("server", "client"):
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
                f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext")  # fmt: skip
    return folder


@STORESCP
@pytest.mark.outside
def test_tls_with_certificates_of_both_sides(made, tmp_path, certificates):
    options = ("+tls", certificates / "server.key", certificates / "server.pem", "+cf", certificates / "ca.pem")
    with StoreScp(tmp_path / "scp", *map(str, options)) as peer:
        files = {"ca": certificates / "ca.pem", "certificate": certificates / "client.pem",
                 "key": certificates / "client.key"}  # fmt: skip
        assert _deliver(made, peer.to, tls=True, **files).unsent == 0
        assert sorted(peer.requests()) == sorted(made.uids())


@STORESCP
@pytest.mark.outside
def test_a_peer_whose_certificate_is_not_trusted_gets_nothing(made, tmp_path, certificates):
    options = ("+tls", certificates / "server.key", certificates / "server.pem", "-pc")
    with StoreScp(tmp_path / "scp", *map(str, options[:3]), "-ic") as peer:
        assert _deliver(made, peer.to, tls=True, attempts=1).unsent == len(made.uids())
        assert peer.requests() == []


@ORTHANC
@pytest.mark.outside
def test_https_with_the_certificates_of_both_sides(made, empty_orthanc, certificates):
    files = {"ca": certificates / "ca.pem", "certificate": certificates / "client.pem",
             "key": certificates / "client.key"}  # fmt: skip
    with Gateway(empty_orthanc.root, certificates, ask=True) as gate:
        assert gate.web.startswith("https:")
        # Without the certificate that it asks for nothing arrives.
        assert _deliver(made, gate.web, ca=files["ca"], attempts=1).unsent == len(made.uids())
        assert empty_orthanc.instances() == set()
        assert _deliver(made, gate.web, **files).unsent == 0
        assert empty_orthanc.instances() == made.uids()


@ORTHANC
@pytest.mark.outside
@pytest.mark.parametrize("named", [True, False])
def test_https_by_the_authority_given_whatever_the_environment_names(
    made, empty_orthanc, certificates, monkeypatch, named
):
    """requests prefers REQUESTS_CA_BUNDLE to what its session was told."""
    import certifi

    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if named:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    with Gateway(empty_orthanc.root, certificates) as gate:
        assert _deliver(made, gate.web, ca=certificates / "ca.pem").unsent == 0
        assert empty_orthanc.instances() == made.uids()


@ORTHANC
@pytest.mark.outside
def test_a_server_whose_certificate_is_not_trusted_gets_nothing_and_is_not_tried_again(
    made, empty_orthanc, certificates
):
    waits = []
    with Gateway(empty_orthanc.root, certificates) as gate:
        assert _deliver(made, gate.web, attempts=5, sleep=waits.append).unsent == len(made.uids())
        # The right authority, another host: the certificate is for 127.0.0.1.
        elsewhere = gate.web.replace("127.0.0.1", "localhost")
        options = {"ca": certificates / "ca.pem", "attempts": 5, "sleep": waits.append}
        assert _deliver(made, elsewhere, **options).unsent == len(made.uids())
        assert waits == []
        assert gate.authorizations == []
        assert empty_orthanc.instances() == set()


@ORTHANC
@pytest.mark.outside
def test_a_bearer_token_opens_and_is_told_to_nobody_else(made, tmp_path, empty_orthanc, certificates, monkeypatch):
    token = tmp_path / "token"
    token.write_text("s3cret-of-the-gateway\n")
    # An entry for every host: what is in ~/.netrc must not take the token's place.
    (tmp_path / "netrc").write_text("default login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Gateway(empty_orthanc.root, certificates, bearer="s3cret-of-the-gateway") as gate:
        done = subprocess.run(
            _command(made, "--to", gate.web, "--tls-ca", certificates / "ca.pem", "--token-file", token, "--log-file",
                     tmp_path / "log"),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert set(gate.authorizations) == {"Bearer s3cret-of-the-gateway"}
        assert empty_orthanc.instances() == made.uids()
        # What is in doubt is asked for with the token too.
        with Ledger(made.out) as ledger, ledger.connection as db:
            db.execute("UPDATE sends SET state = 'sending'")
        again = _deliver(made, gate.web, ca=certificates / "ca.pem", token_file=token)
        assert (again.unsent, empty_orthanc.arrivals()) == (0, len(made.uids()))
    said = done.stdout.encode() + done.stderr.encode() + (tmp_path / "log").read_bytes()
    said += (made.out / "ledger.sqlite").read_bytes()
    assert b"s3cret" not in said


@ORTHANC
@pytest.mark.outside
@pytest.mark.parametrize("written", ["another", None])
def test_a_wrong_or_missing_token_ends_the_attempts_and_leaves_everything_queued(
    made, tmp_path, empty_orthanc, certificates, written
):
    options = {"ca": certificates / "ca.pem"}
    if written:
        options["token_file"] = tmp_path / "token"
        options["token_file"].write_text(written)
    waits = []
    with Gateway(empty_orthanc.root, certificates, bearer="right") as gate:
        delivery = _deliver(made, gate.web, attempts=5, sleep=waits.append, **options)
    assert delivery.unsent == len(made.uids())
    assert waits == []
    assert len(gate.authorizations) == 1
    assert empty_orthanc.instances() == set()


def test_a_token_that_cannot_be_read_is_a_usage_error(made, tmp_path):
    (tmp_path / "token").write_bytes("schlüssel".encode("latin-1"))
    done = subprocess.run(
        _command(made, "--to", "https://127.0.0.1:1/studies", "--token-file", tmp_path / "token"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.USAGE
    assert "token" in done.stderr
    assert "Traceback" not in done.stderr


@ORTHANC
@pytest.mark.outside
def test_run_sends_what_it_writes_and_says_so_with_its_status(tmp_path, empty_orthanc, certificates):
    """The command line of `run --send-to`: to a PACS, through a gateway with a token, and to nobody."""
    import json

    from mammoscan.core.domain import Density, Laterality, View
    from mammoscan.synthetic import phantom
    from mammoscan.synthetic.dicom import Subject, file_bytes, mammogram_dataset

    archive, out, token = tmp_path / "archive", tmp_path / "out", tmp_path / "token"
    archive.mkdir()
    pixels, _ = phantom.render(phantom.Spec(Laterality.LEFT, View.CC, Density.B), 1)
    ds = mammogram_dataset(
        pixels, laterality=Laterality.LEFT, view=View.CC, subject=Subject("RUN-1", "Run^Rita"), spacing_mm=0.27
    )
    (archive / "1.dcm").write_bytes(file_bytes(ds))
    token.write_text("right")

    def run(*arguments):
        command = [sys.executable, "-m", "mammoscan", "run", str(archive), "--out", str(out), "--settle-seconds", "0",
                   "--json", "--attempts", "1", *map(str, arguments)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done, json.loads(done.stdout) if done.stdout else {}

    dead = f"X@127.0.0.1:{free_port()}"
    done, summary = run("--send-to", dead)
    assert done.returncode == ExitCode.SOME_FAILED
    assert (summary["analysed"], summary["sent"], summary["unsent"]) == (1, 0, 4)
    assert "4 of 4 objects are not sent" in done.stderr
    with Gateway(empty_orthanc.root, certificates, bearer="right") as gate:
        options = ("--send-to", empty_orthanc.dimse, "--send-to", gate.web, "--tls-ca", certificates / "ca.pem",
                   "--token-file", token)  # fmt: skip
        done, summary = run(*options)
        assert done.returncode == ExitCode.ALL_ANALYSED, done.stderr
        assert (summary["analysed"], summary["unchanged"], summary["sent"], summary["unsent"]) == (0, 1, 8, 0)
        done, summary = run(*options)
        assert (done.returncode, summary["sent"]) == (ExitCode.ALL_ANALYSED, 0)
    assert empty_orthanc.instances() == {
        str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in out.rglob("*.dcm")
    }
    done, _ = run("--send-to", "nonsense")
    assert done.returncode == ExitCode.USAGE
    assert "not a destination" in done.stderr


def test_a_folder_that_is_no_result_is_a_usage_error(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mammoscan", "send", str(tmp_path), "--to", "A@b:1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.USAGE
    assert "not a folder of results" in done.stderr
