"""Peers that nobody here wrote, on loopback: Orthanc with its DICOMweb plugin, DCMTK's storescp."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
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


class Results:
    """A folder as a run leaves it, without running: one study with every kind of object."""

    def __init__(self, folder: Path, studies: int = 1):
        import dataclasses

        from mammoscan import publish
        from mammoscan.ledger import Ledger, StudyRecord
        from mammoscan.report import kinds
        from tests.report import results as made
        from tests.report import sources

        self.out = folder / "results"
        self.out.mkdir(parents=True)
        for n in range(studies):
            subject = dataclasses.replace(sources.SUBJECT, study_key=str(n), patient_id=f"SRC-{n}")
            headers = sources.write_study(folder / f"archive-{n}", views=made.VIEWS, subject=subject)
            result = sources.with_findings(headers)
            published = publish.publish(result, made.CONTEXT, self.out, kinds.NAMES)
            with Ledger(self.out) as ledger:
                record = StudyRecord(f"key{n}", published.created, published.outputs, published.rows)
                ledger.record_study(result.study.study_instance_uid, record)

    def uids(self):
        import pydicom

        return {str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in self.out.rglob("*.dcm")}

    def queue(self):
        """Rows of the state file: (destination, SOPInstanceUID, state, attempts, committed)."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.out / "ledger.sqlite")) as db:
            return db.execute("SELECT destination, sop_instance_uid, state, attempts, committed FROM sends").fetchall()
