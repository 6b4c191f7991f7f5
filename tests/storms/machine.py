"""A small archive, and a machine that fails as it is told: ``shim.c``, preloaded into the whole process group."""

from __future__ import annotations

import ctypes
import errno
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from mammoscan.archive.header import apply_rules
from mammoscan.core.config import AnalysisConfig
from mammoscan.image.analyse import drawn
from mammoscan.model import bundle
from mammoscan.run import previews, tables
from mammoscan.run.inventory import Inventory, Status
from mammoscan.run.ledger import Ledger
from mammoscan.run.policy import Plain
from mammoscan.synthetic.dicom import file_bytes, uid
from tests.storms import bars, bases

NEEDED = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to build the failing machine")
CALLS = ("write", "rename", "fsync", "open", "mkdir", "unlink", "truncate", "chmod", "flock")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EINVAL, errno.EPERM)
CLOCK = "1735689600"  # the reports' date and time, the same in every run: 2025-01-01 00:00:00 UTC
OPTIONS = ("--workers", "1", "--max-regions", "2", "--max-findings", "2", "--quiet")


def archive(folder: Path) -> Path:
    """Three studies of two small images, one of them cut off, and a text."""
    folder.mkdir(parents=True)
    for study in range(3):
        for which in range(2):
            ds = bases.base((ExplicitVRLittleEndian, RLELossless)[study % 2], "breast", which)
            ds.PatientID, ds.PatientName = f"STORM-{study}", f"Storm^{study}"
            ds.StudyInstanceUID = uid("storm of kills", str(study))
            ds.SeriesInstanceUID = uid("storm of kills", str(study), "series")
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("storm of kills", str(study), str(which))
            content = file_bytes(ds)
            (folder / f"{study}-{which}.dcm").write_bytes(
                content[: 9 * len(content) // 10] if study == which == 1 else content
            )
    (folder / "notes.txt").write_text("nothing to do")
    return folder


@functools.cache
def _shim() -> Path:
    made = Path(tempfile.mkdtemp(prefix="storm-")) / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(
        ["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"], check=True
    )
    return made


class Machine:
    """One results folder's machine: its clock stands, its calls are counted, and one of them may fail."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._counter = out.parent / f"{out.name}.calls"

    def environment(self, fault: str = "") -> dict[str, str]:
        """For a command. fault: ``CALL:FIRST:COUNT:ERRNO``, see ``shim.c``."""
        self._counter.write_bytes(bytes(len(CALLS) * ctypes.sizeof(ctypes.c_long)))
        return {
            "LD_PRELOAD": str(_shim()), "STORM_ROOT": str(self.out), "STORM_COUNTER": str(self._counter),
            "STORM_CLOCK": CLOCK, "TZ": "UTC", "STORM_FAULT": fault,
        }  # fmt: skip

    def calls(self) -> dict[str, int]:
        """How many calls of every kind the last command made below the folder."""
        counts = (ctypes.c_long * len(CALLS)).from_buffer_copy(self._counter.read_bytes())
        return dict(zip(CALLS, counts, strict=True))


def undisturbed(images: Path, out: Path) -> Path:
    """A whole run, on a machine whose clock stands. How long it took stands beside the folder, in ``seconds``."""
    began = time.monotonic()
    done = bars.run(bars.command(images, out, *OPTIONS), environment=Machine(out).environment())
    assert bars.deaths(done) == []
    assert done.status == bars.ExitCode.SOME_FAILED, done.err
    assert bars.half_written(out) == []
    assert bars.lost_or_twice(images, out) == []
    (out.parent / "seconds").write_text(str(time.monotonic() - began))
    return out


def before_the_reports(images: Path, finished: Path, out: Path) -> Path:
    """The folder as a kill leaves it after the last image was classified: no study is reported, the pictures lie there.

    All but one, which is lost and has to be drawn again.
    """
    shutil.copytree(finished, out)
    with Ledger(out) as ledger:
        state = ledger.connection
        for header in itertools.islice(Inventory(state, images, Plain(), ledger.changed).headers(), 1, None):
            record = ledger.image(header.sop_instance_uid)
            assert record is not None
            if record.reason is None:
                preview = drawn(
                    apply_rules(header, AnalysisConfig().include),
                    AnalysisConfig(),
                    bundle.load(None).crop,
                    anonymous=False,
                )
                previews.write(previews.place(out, record.key), preview)
        state.execute("DELETE FROM studies")
        state.execute("DELETE FROM outputs")
        state.execute("INSERT INTO todo SELECT DISTINCT study_instance_uid FROM images")
        state.execute(
            "UPDATE files SET status = ?, stage = '', code = '', detail = '' "
            "WHERE instance IN (SELECT sop_instance_uid FROM images)",
            (Status.PENDING,),
        )
    shutil.rmtree(out / "studies")
    return before_the_tables(out, out)


def before_the_tables(finished: Path, out: Path) -> Path:
    """The folder as a kill leaves it after the last report: no table is written."""
    if out != finished:
        shutil.copytree(finished, out)
    for name in (*(f"{name}.csv" for name in bars.TABLES), "run.json"):
        (out / name).unlink()
    with Ledger(out) as ledger:
        tables.outdated(ledger)
        ledger.changed(now=True)
        assert ledger.cut_off
    return out


def other_bytes(out: Path, finished: Path) -> list[str]:
    """Results that are not the very bytes of those of another folder."""
    one, other = bars.recorded(out), bars.recorded(finished)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def same_as(out: Path, finished: Path, images: Path) -> list[str]:
    """All that makes a folder another than that of an undisturbed run, in tables and in bytes."""
    return (
        bars.half_written(out)
        + bars.lost_or_twice(images, out)
        + bars.differences(out, finished)
        + other_bytes(out, finished)
    )


def mounted(folder: Path, options: str) -> str:
    """Mount a small file system; why that was not possible, '' when it was."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return "only root can mount"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    return done.stderr.strip()


def remounted(folder: Path, options: str) -> None:
    """Change a mounted file system."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def unmounted(folder: Path) -> None:
    """Take a file system away, whatever still holds it."""
    subprocess.run(["umount", "-l", str(folder)], check=True)
