"""Peers that nobody here wrote, on loopback: Orthanc with its DICOMweb plugin, DCMTK's storescp."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC = pytest.mark.skipif(
    shutil.which("Orthanc") is None or not PLUGIN.exists(), reason="needs orthanc and orthanc-dicomweb"
)
# pynetdicom puts a program of the same name beside the interpreter; ours is DCMTK's.
DCMTK_STORESCP = shutil.which(
    "storescp", path=os.pathsep.join(p for p in os.get_exec_path() if Path(p) != Path(sys.executable).parent)
)
STORESCP = pytest.mark.skipif(DCMTK_STORESCP is None, reason="needs dcmtk")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _wait(port, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the peer ended with status {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("the peer does not listen")


class Orthanc:
    """A fresh Orthanc; started and stopped at will on the same ports and storage."""

    def __init__(self, folder: Path, **more):
        self.port, self.http = free_port(), free_port()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "Name": "TEST", "DicomAet": "ORTHANC", "DicomPort": self.port, "HttpPort": self.http,
            "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "AuthenticationEnabled": False, "RemoteAccessAllowed": False, "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": True, **more,
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.process = None

    @property
    def dimse(self):
        return f"ORTHANC@127.0.0.1:{self.port}"

    @property
    def root(self):
        return f"http://127.0.0.1:{self.http}"

    @property
    def web(self):
        return f"http://127.0.0.1:{self.http}/dicom-web/studies"

    def start(self):
        self.log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            ["Orthanc", str(self.folder / "orthanc.json")], stdout=self.log, stderr=self.log
        )
        _wait(self.port, self.process)
        _wait(self.http, self.process)
        return self

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.log.close()
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def get(self, path):
        response = requests.get(f"http://127.0.0.1:{self.http}/{path}", timeout=60)
        response.raise_for_status()
        return response.json()

    def instances(self):
        """SOPInstanceUIDs that it holds."""
        return {i["MainDicomTags"]["SOPInstanceUID"] for i in self.get("instances?expand")}

    def arrivals(self):
        """How many instances ever arrived as new."""
        return sum(c["ChangeType"] == "NewInstance" for c in self.get("changes?limit=10000")["Changes"])


class Gateway:
    """HTTPS before a DICOMweb server, since Debian's Orthanc 1.10.1 ends with a segmentation fault at the first
    HTTPS request. Keeps the Authorization of every request.

    tls: folder with ``server.pem``, ``server.key`` and ``ca.pem``. bearer: who does not show this token gets 401.
    ask: whether a client's certificate of the same authority is asked for.
    """

    def __init__(self, behind: str, tls: Path, *, bearer: str = "", ask: bool = False):
        self.authorizations: list[str] = []
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                said = self.headers.get("Authorization", "")
                gateway.authorizations.append(said)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if bearer and said != f"Bearer {bearer}":
                    status, kind, content = 401, "text/plain", b"no"
                else:
                    headers = {k: v for k, v in self.headers.items() if k in {"Content-Type", "Accept"}}
                    # Only the path counts: the address before it is this gateway's.
                    there = requests.request(self.command, behind + self.path, data=body, headers=headers, timeout=60)
                    status, kind, content = there.status_code, there.headers.get("Content-Type", ""), there.content
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer  # noqa: N815 (the library's names)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "server.pem", tls / "server.key")
        if ask:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(tls / "ca.pem")
        # The handshake is each connection's own matter: a client that breaks it off must not stop the others.
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.web = f"https://127.0.0.1:{self.server.server_port}/dicom-web/studies"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class StoreScp:
    """DCMTK's storescp with some of its options; counts what it was asked to store."""

    def __init__(self, folder: Path, *options: str, port: int = 0):
        self.folder, self.options = folder, options
        self.port = port or free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.received = folder / "received"
        self.received.mkdir(exist_ok=True)
        self.process = None

    @property
    def to(self):
        return f"STORESCP@127.0.0.1:{self.port}"

    def __enter__(self):
        self.log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [DCMTK_STORESCP, "-v", "-aet", "STORESCP", "-od", str(self.received), *self.options, str(self.port)],
            stdout=self.log, stderr=self.log,
        )  # fmt: skip
        _wait(self.port, self.process)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def words(self):
        return (self.folder / "log").read_text(errors="replace")

    def requests(self):
        """SOPInstanceUIDs of all stored objects in order: storescp says each file it stores."""
        return re.findall(r"storing DICOM file: .*?/[A-Za-z0-9]+\.([\d.]+)", self.words())

    def associations(self):
        """Associations acknowledged; the check that it listens is none."""
        return self.words().count("Association Acknowledged")


class Scp:
    """A C-STORE peer made here, for answers that none outside gives on demand.

    classes: what it accepts besides Verification. answers: status by SOP class; 0 where there is none. aborts: SOP
    classes of objects that end the association.
    """

    CAD, TID1500, PDF = (
        "1.2.840.10008.5.1.4.1.1.88.50",
        "1.2.840.10008.5.1.4.1.1.88.34",
        "1.2.840.10008.5.1.4.1.1.104.1",
    )

    def __init__(self, *classes: str, answers: dict[str, int] | None = None, aborts=(), host="127.0.0.1", port=0):
        self.classes, self.answers, self.aborts, self.host = classes, answers or {}, aborts, host
        self.port = port or free_port()
        self.stored: list[str] = []  # SOP classes
        self.offered: list[str] = []  # the same, with what was answered otherwise

    @property
    def to(self):
        return f"PACS@{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def _store(self, event):
        found = str(event.request.AffectedSOPClassUID)
        self.offered.append(found)
        if found in self.aborts:
            event.assoc.abort()
            return 0xA700
        status = self.answers.get(found, 0)
        if not status:
            self.stored.append(found)
        return status

    def __enter__(self):
        from pynetdicom import AE, evt

        ae = AE(ae_title="PACS")
        for uid in (*self.classes, "1.2.840.10008.1.1"):
            ae.add_supported_context(uid)
        handlers = [(evt.EVT_C_STORE, self._store)]
        self.server = ae.start_server((self.host, self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_):
        self.server.shutdown()


class Web:
    """A DICOMweb server made here. Keeps what it was asked and stored.

    refuse: called with the SOPInstanceUIDs of a POST and its size; a status, or (status, headers), or None to store.
    kind: of its answer; what is not JSON says nothing about objects.
    """

    def __init__(self, refuse=lambda *_: None, *, kind: str = "application/dicom+json"):
        self.stored: list[str] = []
        self.requests: list[tuple[str, str, int]] = []  # method, path, bytes
        self.authorizations: list[str | None] = []
        self.batches: list[int] = []  # objects of each POST
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                web.note(self, 0)
                uid = self.path.rpartition("SOPInstanceUID=")[2]
                found = [{"00080018": {"vr": "UI", "Value": [uid]}}] if uid in web.stored else []
                self.say(200 if found else 204, json.dumps(found).encode() if found else b"")

            def do_POST(self):
                size = int(self.headers["Content-Length"])
                web.note(self, size)
                uids = _instances(self.rfile.read(size))
                web.batches.append(len(uids))
                answer = refuse(uids, size)
                if answer is not None:
                    status, headers = answer if isinstance(answer, tuple) else (answer, {})
                    return self.say(status, **headers)
                web.stored += uids
                said = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [u]}} for u in uids]}}
                content = json.dumps(said).encode() if kind.endswith("json") else b"<NativeDicomModel/>"
                return self.say(200, content, **{"Content-Type": kind})

            def say(self, status, content=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.to = f"http://127.0.0.1:{self.server.server_port}/dicom-web/studies"

    def note(self, handler, size):
        self.requests.append((handler.command, handler.path, size))
        self.authorizations.append(handler.headers.get("Authorization"))

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def _instances(body):
    """SOPInstanceUIDs of a multipart body."""
    import io

    import pydicom

    parts = body.split(b"Content-Type: application/dicom\r\n\r\n")[1:]
    return [str(pydicom.dcmread(io.BytesIO(p), specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for p in parts]


class Raw:
    """Whoever listens and is no peer: ``speak`` gets each connection and is left alone with it."""

    def __init__(self, speak):
        self.speak = speak
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        with contextlib.suppress(OSError):
            self.speak(connection)

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        for connection in self.open:
            connection.close()


class Results:
    """A folder as a run leaves it, without running: studies with every kind of object."""

    def __init__(self, folder: Path, studies: int = 1):
        import dataclasses

        from mammoscan.run import publish
        from mammoscan.run.ledger import Ledger, StudyRecord
        from tests.report import results as made
        from tests.report import sources

        self.out = folder / "results"
        self.out.mkdir(parents=True)
        for n in range(studies):
            subject = dataclasses.replace(sources.SUBJECT, study_key=str(n), patient_id=f"SRC-{n}")
            headers = sources.write_study(folder / f"archive-{n}", views=made.VIEWS, subject=subject)
            result = sources.with_findings(headers)
            published = publish.publish(_job(result, self.out))
            with Ledger(self.out) as ledger:
                record = StudyRecord(
                    f"key{n}", f"results{n}", published.created, published.outputs, published.above, published.rows
                )
                ledger.record_study(result.study.study_instance_uid, record)

    def uids(self):
        import pydicom

        return {str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in self.out.rglob("*.dcm")}

    def queue(self):
        """Rows of the state file: (destination, SOPInstanceUID, state, attempts, committed)."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.out / "ledger.sqlite")) as db:
            return db.execute("SELECT destination, sop_instance_uid, state, attempts, committed FROM sends").fetchall()


def _job(result, out: Path):
    """What publishes a study with every kind of object, its pictures drawn."""
    import dataclasses

    from mammoscan.core import kinds
    from mammoscan.core.config import AnalysisConfig
    from mammoscan.core.domain import Scored
    from mammoscan.image.crops import CropGeometry
    from mammoscan.run import codec, previews, publish
    from mammoscan.run.plan import StudyPlan
    from mammoscan.run.tasks import Settings
    from tests.report import results as made

    images = []
    for number, prediction in enumerate(result.images):
        picture = previews.place(out, f"{number:02x}")
        previews.write(picture, prediction.preview)
        scored = Scored(**{field.name: getattr(prediction, field.name) for field in dataclasses.fields(Scored)})
        images.append(publish.ToReport(prediction.header, codec.encode_scored(scored), prediction.header, picture))
    headers = tuple(prediction.header for prediction in result.images)
    plan = StudyPlan(result.study.study_instance_uid, headers, (), (), ())
    settings = Settings(AnalysisConfig(), CropGeometry(224, 1.5), out, out, anonymous=False)
    return publish.Job(plan, tuple(images), None, settings, made.CONTEXT, kinds.NAMES, out)
