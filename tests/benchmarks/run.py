"""How near a run is to the limit of its machine: ``python -m tests.benchmarks.run [--studies N] [--against CHECKOUT]``.

A generated archive of 4096 x 3328 JPEG Lossless and JPEG 2000 mammograms is analysed by the real command in processes of
its own, on all cores that this process may use. Then, on the same cores, what no program that does the same work could
do without is measured alone (``limit``): the fastest exact decode of these very files by any decoder that is installed, the network on
as many crops as the run looked at in full batches of the run's precision, and the objects of the studies. Ratio: cores x
wall time of the run over the core time of the limit.

--against: a checkout of another commit with an environment of its own (``.venv``); both are run by turns, and their
images a second are compared. Cores that other programs use meanwhile are told: where they are many, believe core
seconds, not wall time. Seconds are of one machine; only ratios mean something elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from mammoscan.core.config import FULL, HALF
from tests import headers
from tests.benchmarks import limit
from tests.benchmarks.generate import write_benchmark_archive
from tests.benchmarks.network import processor

HERE = Path(__file__).parents[2]
SAMPLE_SECONDS = 0.5
# Asking for proportional set sizes walks all page tables: some 0.1 s of a core that the run then lacks.
MEMORY_SECONDS = 2.0
# Of others, as they were published: neither was measured again here.
PEERS = (
    ("RetinaNet of a mammography plug-in, 1750 x 1422, two cores", 12.0),
    ("patch classifier with heat maps", 115.0),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A run. wall: seconds. core: seconds of a core of all its processes. others: of everything else, meanwhile.

    peak: bytes, the highest sum of the proportional set sizes of its processes. summary: what ``--json`` says.
    """

    wall: float
    core: float
    others: float
    peak: int
    summary: dict[str, Any]

    @property
    def images(self) -> int:
        return int(self.summary["analysed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=8)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--resolution", default=FULL, choices=(FULL, HALF))
    parser.add_argument("--folder", type=Path, default=None, help="keep the archive here and use it again")
    parser.add_argument("--against", type=Path, default=None, help="a checkout of another commit, with its .venv")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each with --against")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{processor()}; {cores} cores; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        archive = (arguments.folder or place) / "archive"
        if not archive.exists():
            write_benchmark_archive(archive, studies=arguments.studies, seed=1)
        options = ["--workers", str(arguments.workers)]
        own = [*options, "--precision", arguments.precision, "--resolution", arguments.resolution]
        runs, theirs = [], []
        for number in range(arguments.rounds if arguments.against else 1):
            out = place / f"own{number}"
            runs.append(measure(HERE, sys.executable, archive, out, own))
            if arguments.against:
                python = str(arguments.against / ".venv" / "bin" / "python")
                theirs.append(measure(arguments.against, python, archive, place / f"other{number}", options))
        said = json.loads((out / "run.json").read_text(encoding="utf-8"))
        least = limit.measured(headers.mammograms(archive), out, said["precision"], half=arguments.resolution == HALF)
    report(runs, least, cores, arguments.workers)
    if theirs:
        compare(runs, theirs, arguments.against, cores)
    print(f"load {os.getloadavg()[0]:.1f}")


def measure(checkout: Path, python: str, archive: Path, out: Path, options: list[str]) -> Measured:
    """Run the command of a checkout and watch its whole process tree."""
    command = [
        python, "-m", "mammoscan", "run", str(archive), "--out", str(out), *options, "--settle-seconds", "0", "--json",
    ]  # fmt: skip
    before, began = _busy(), time.monotonic()
    watching = time.process_time()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=checkout, stdout=said, stderr=subprocess.DEVNULL)
        tree = psutil.Process(process.pid)
        core: dict[int, float] = {}
        peak, memory_at = 0, 0.0
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            members = _members(tree)
            for member in members:
                with contextlib.suppress(psutil.Error):
                    times = member.cpu_times()
                    core[member.pid] = times.user + times.system
            if time.monotonic() - memory_at >= MEMORY_SECONDS:
                memory_at = time.monotonic()
                peak = max(peak, sum(map(_memory, members)))
            time.sleep(SAMPLE_SECONDS)
        wall = time.monotonic() - began
        said.seek(0)
        text = said.read()
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    if process.returncode != 0:
        raise SystemExit(f"the run of {checkout} ended with status {process.returncode}: {text}")
    used = ended[2]
    # Of the command and all that it waited for; processes that were killed unwaited are known from the samples.
    total = max(used.ru_utime + used.ru_stime, sum(core.values()))
    others = _busy() - before - total - (time.process_time() - watching)
    return Measured(wall, total, max(0.0, others), peak, json.loads(text))


def _busy() -> float:
    """Seconds that cores have worked since the machine started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _members(tree: psutil.Process) -> list[psutil.Process]:
    try:
        return [tree, *tree.children(recursive=True)]
    except psutil.Error:
        return []


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def report(runs: list[Measured], least: limit.Limit, cores: int, workers: int) -> None:
    """Print what the run of median wall time took, beside the limit."""
    run = sorted(runs, key=lambda r: r.wall)[len(runs) // 2]
    images, wall = run.images, run.wall
    print(f"{images} images of 4096 x 3328, {workers} workers, {cores} cores, {least.precision}, wall {wall:.1f} s")
    print(f"images a second: {images / wall:.3f}; core seconds an image: {run.core / images:.2f}")
    for name, value in run.summary["stage_seconds"].items():
        print(f"  {name}: {value:.1f} s in all, {value / images:.2f} s an image")
    print(f"cores busy with it: {run.core / (cores * wall):.1%} of the wall time; with other programs: "
          f"{run.others / (cores * wall):.1%}")  # fmt: skip
    print(f"peak memory, all processes: {run.peak / 1e9:.2f} GB")
    print("limit, core seconds an image:")
    for name, value in least.parts.items():
        print(f"  {name}: {value:.3f}")
    total = sum(least.parts.values())
    print(f"  together: {total:.3f}; on {cores} cores {cores / total:.3f} images a second")
    print(f"cores x wall time over the limit: {cores * wall / images / total:.2f}")
    print(f"core time over the limit: {run.core / images / total:.2f}")
    for name, seconds in PEERS:
        print(f"peer, as quoted, not measured here: {name}: {seconds:.0f} s an image")


def compare(runs: list[Measured], theirs: list[Measured], checkout: Path, cores: int) -> None:
    """Print how the runs of two checkouts compare, by turns."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout.strip()
    for ours, other in zip(runs, theirs, strict=True):
        print(f"by turns: {ours.images / ours.wall:.3f} images a second, {commit} {other.images / other.wall:.3f}; others took "
              f"{ours.others / (cores * ours.wall):.0%} and {other.others / (cores * other.wall):.0%} of the cores")  # fmt: skip
    wall = median(o.wall / o.images / (r.wall / r.images) for r, o in zip(runs, theirs, strict=True))
    core = median(o.core / o.images / (r.core / r.images) for r, o in zip(runs, theirs, strict=True))
    print(f"images a second over those of {commit}: {wall:.2f} times; core time: {core:.2f} times less")
    print(f"peak memory of {commit}: {max(other.peak for other in theirs) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
