"""Killed at any moment, run again: as if nothing had happened, to the last byte."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from mammoscan.core.errors import ExitCode
from tests.send.peers import STORESCP, StoreScp
from tests.storms import bars, machine

pytestmark = machine.NEEDED


def _killed(arguments, environment, after):
    """Start a command and kill its whole process group after some seconds; False when it ended before."""
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, **environment},
    ) as process:  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


class Storm:
    """Kills in one phase of a run after the other. rng: of the moments."""

    def __init__(self, images, finished, folder, seed):
        self.images, self.finished, self.folder = images, finished, folder
        self.rng = random.Random(seed)
        self.kills = Counter()
        self.seconds = {"analysis": float((finished.parent / "seconds").read_text())}
        self.campaigns = 0

    def _out(self, phase):
        self.campaigns += 1
        out = self.folder / f"{self.campaigns}-{phase}"
        if phase == "reports":
            machine.before_the_reports(self.images, self.finished, out)
        elif phase == "tables":
            machine.before_the_tables(self.finished, out)
        elif phase == "sending":
            shutil.copytree(self.finished, out)
        return out

    def campaign(self, phase, kills, *, to=""):
        """Kill ``kills`` commands one after the other, then let one finish and hold the folder to the bars."""
        out = self._out(phase)
        made = machine.Machine(out)
        arguments = bars.command(self.images, out, *machine.OPTIONS)
        if phase == "sending":
            arguments = [sys.executable, "-m", "mammoscan", "send", str(out), "--to", to, "--quiet"]
        # How long it takes here and now: the moments are spread over that, most after the imports.
        if phase not in self.seconds:
            self.seconds[phase] = self._timed(phase, to)
        landed = 0
        while landed < kills:
            whole = self.seconds[phase]
            if _killed(arguments, made.environment(), self.rng.uniform(0.25, 1.0) * whole):
                landed += 1
                assert bars.broken_after_a_kill(out) == [], f"campaign {self.campaigns}, {phase}"
                continue
            # It was faster than thought, and finished: the next moments come earlier, in a folder as before.
            self.seconds[phase] *= 0.8
            self._finish(phase, out, arguments, made)
            if phase in {"analysis", "reports", "tables"}:
                shutil.rmtree(out)
                out = self._out(phase)
                made = machine.Machine(out)
                arguments = bars.command(self.images, out, *machine.OPTIONS)
            elif phase == "sending":
                (out / "ledger.sqlite").write_bytes((self.finished / "ledger.sqlite").read_bytes())
        self.kills[phase] += landed
        self._finish(phase, out, arguments, made)
        shutil.rmtree(out)

    def _timed(self, phase, to):
        out = self._out(phase)
        arguments = bars.command(self.images, out, *machine.OPTIONS)
        if phase == "sending":
            arguments = [sys.executable, "-m", "mammoscan", "send", str(out), "--to", to, "--quiet"]
        began = time.monotonic()
        self._finish(phase, out, arguments, machine.Machine(out))
        shutil.rmtree(out)
        return time.monotonic() - began

    def _finish(self, phase, out, arguments, made):
        done = bars.run(arguments, environment=made.environment())
        where = f"campaign {self.campaigns}, {phase}"
        assert bars.deaths(done) == [], where
        expected = ExitCode.ALL_ANALYSED if phase == "sending" else ExitCode.SOME_FAILED
        assert done.status == expected, f"{where}: {done.err}"
        assert machine.same_as(out, self.finished, self.images) == [], where


def test_killed_in_the_analysis_the_reports_and_the_tables_a_run_ends_as_if_it_had_not_been(images, finished, tmp_path):
    storm = Storm(images, finished, tmp_path, seed=1)
    storm.campaign("analysis", 1)
    storm.campaign("reports", 3)
    storm.campaign("tables", 1)
    assert sum(storm.kills.values()) == 5


@pytest.mark.outside
@STORESCP
def test_killed_while_it_sends_a_peer_gets_every_object_in_the_end(images, finished, tmp_path):
    storm = Storm(images, finished, tmp_path, seed=2)
    with StoreScp(tmp_path / "peer") as peer:
        storm.campaign("sending", 3, to=peer.to)
        assert set(peer.requests()) == _objects(finished)


def _objects(out):
    import pydicom

    return {str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in out.rglob("*.dcm")}


@pytest.mark.slow
@pytest.mark.outside
@pytest.mark.timeout(7200)
@STORESCP
def test_two_hundred_kills_leave_nothing_lost_twice_or_half_written(images, finished, tmp_path):
    storm = Storm(images, finished, tmp_path, seed=int(os.environ.get("STORM_SEED", "3")))
    with StoreScp(tmp_path / "peer") as peer:
        for phase, campaigns, kills in (("tables", 5, 8), ("reports", 10, 8), ("sending", 6, 8), ("analysis", 8, 4)):
            for _ in range(campaigns):
                storm.campaign(phase, kills, to=peer.to)
                print(f"{phase}: {dict(storm.kills)} kills, {storm.seconds[phase]:.1f} s a command", flush=True)
        assert set(peer.requests()) == _objects(finished)
    assert sum(storm.kills.values()) == 200


def test_of_two_runs_at_once_the_second_leaves_and_harms_nothing(images, finished, tmp_path):
    out = machine.before_the_reports(images, finished, tmp_path / "out")
    environment = machine.Machine(out).environment()
    arguments = bars.command(images, out, *machine.OPTIONS)
    seconds = 0.0
    with subprocess.Popen(
        arguments, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    ) as first:  # fmt: skip
        # Once the first writes its reports the second is started, by `run` and by `send`.
        deadline = time.monotonic() + 300
        while not list(out.glob("studies/*/*")) and time.monotonic() < deadline:
            assert first.poll() is None, "the first run ended before the second could be started"
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGSTOP)  # it holds the folder as long as the others try
        sending = [sys.executable, "-m", "mammoscan", "send", str(out), "--to", "X@127.0.0.1:1"]
        for other in (arguments, sending):
            began = time.monotonic()
            done = bars.run(other, environment=environment)
            seconds += time.monotonic() - began
            assert bars.deaths(done) == []
            assert done.status == ExitCode.LOCKED
            assert str(out) in done.err
        os.killpg(first.pid, signal.SIGCONT)
        assert first.wait() == ExitCode.SOME_FAILED
    assert machine.same_as(out, finished, images) == []
