"""Core seconds of the array stages of an image: ``python -m tests.benchmarks.stages [--against CHECKOUT]``.

The eight pictures of the benchmark's archive (4096 x 3328) go through ``analyse`` in a process of its own, one thread,
with the review page's picture as a run draws it; the stages' own laps are taken in core seconds (user and system). Of
each picture the fastest of the rounds counts: others on the same machine only ever add. The bar is on segmentation and
features together.

--against: a checkout of another commit with an environment of its own (``.venv``); both analyse each picture by turns.
Seconds are of one machine; only ratios mean something elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parents[2]
BAR = 0.25  # core seconds an image
COUNTED = ("segment", "features")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, default=None, help="a checkout of another commit, with its .venv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="keep the archive here and use it again")
    parser.add_argument("--works", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.works:
        work(arguments.works)
        return
    from tests.benchmarks.generate import write_benchmark_archive
    from tests.benchmarks.network import processor

    print(f"{processor()}; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as temporary:
        archive = (arguments.folder or Path(temporary)) / "archive"
        if not archive.exists():
            write_benchmark_archive(archive, studies=2, seed=1)
        workers = {"own": start(HERE, sys.executable, archive)}
        if arguments.against:
            workers["other"] = start(arguments.against, str(arguments.against / ".venv" / "bin" / "python"), archive)
        files = len(list(archive.rglob("*.dcm")))
        best: dict[str, list[dict[str, float]]] = {name: [{} for _ in range(files)] for name in workers}
        for _ in range(arguments.rounds):
            for number in range(files):
                for name, worker in workers.items():
                    for stage, seconds in asked(worker, number).items():
                        known = best[name][number]
                        known[stage] = min(seconds, known.get(stage, seconds))
        for worker in workers.values():
            worker.communicate()
    for stage in best["own"][0]:
        print(f"{stage}: " + ", ".join(f"{name} {mean(rows, (stage,)):.3f}" for name, rows in best.items()))
    both = {name: mean(rows, COUNTED) for name, rows in best.items()}
    print(
        f"{' and '.join(COUNTED)}: {', '.join(f'{name} {seconds:.3f}' for name, seconds in both.items())} (bar {BAR})"
    )
    print(f"load {os.getloadavg()[0]:.1f}")


def mean(rows: list[dict[str, float]], stages: tuple[str, ...]) -> float:
    """Seconds an image of some stages."""
    return sum(row[stage] for row in rows for stage in stages) / len(rows)


def start(checkout: Path, python: str, archive: Path) -> subprocess.Popen[str]:
    """A process that analyses with a checkout's code, as a worker of a run is started."""
    paths = os.environ | {"PYTHONPATH": str(checkout)}
    asks = (
        "import json; from mammoscan.run import pool; print(json.dumps(getattr(pool, 'ENVIRONMENT', pool.ONE_THREAD)))"
    )
    said = subprocess.run([python, "-c", asks], cwd=checkout, env=paths, capture_output=True, text=True, check=True)
    command = [python, str(Path(__file__)), "--works", str(archive.resolve())]
    environment = paths | json.loads(said.stdout)
    return subprocess.Popen(
        command, cwd=checkout, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def asked(worker: subprocess.Popen[str], number: int) -> dict[str, float]:
    """Core seconds of a picture by stage."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    print(number, file=worker.stdin, flush=True)
    said: dict[str, float] = json.loads(worker.stdout.readline())
    return said


def work(archive: Path) -> None:
    """Analyse the pictures whose numbers are asked for, one a line."""
    from mammoscan.core.config import AnalysisConfig
    from mammoscan.core.domain import Analysed
    from mammoscan.image import analyse
    from mammoscan.model import bundle
    from tests import headers

    clock: Any = SimpleNamespace(perf_counter=time.process_time)
    vars(analyse)["time"] = clock
    mammograms = headers.mammograms(archive)
    cut = bundle.load(None).crop
    for line in sys.stdin:
        found = analyse.analyse(mammograms[int(line)], AnalysisConfig(), cut, None, None, False, True)
        assert isinstance(found, Analysed), found
        print(json.dumps(dict(found.seconds)), flush=True)


if __name__ == "__main__":
    main()
