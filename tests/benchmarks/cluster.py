"""What a second machine adds, and how many one command can lead: ``python -m tests.benchmarks.cluster``.

A real scheduler and real workers, each a process of one thread that may use one core alone. A generated archive of
4096 x 3328 mammograms is run over by one worker, then by two, after each has loaded the network: images a second, and
what the second adds over the first. Scheduler and command share the cores with them, as does whatever else runs on the
machine: its load stands with the figures, and the workers' own seconds of a core an image beside the wall's.

Then the command alone: the same run over many images with stubs for headers, pixels, network and reports (``stubs``), so
that workers take no time. The seconds of a core that the command and the scheduler take an image, and at how many
workers each would be busy all the time, if a worker takes the seconds an image that were measured before.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import psutil

from mammoscan.core.console import Console
from mammoscan.run import pipeline, publish, tasks
from mammoscan.run.config import ClusterConfig, RunConfig
from tests.benchmarks import scale, stubs
from tests.benchmarks.generate import write_benchmark_archive
from tests.clusters import Cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=3, help="of four images, for each worker")
    parser.add_argument("--archive", type=Path, default=None, help="keep the archive here and use it again")
    parser.add_argument("--stubbed", type=int, default=4000, help="images of the run with stubs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = workers(Path(folder), arguments.studies, arguments.archive)
        command(Path(folder), arguments.stubbed, seconds)


def workers(folder: Path, studies: int, kept: Path | None) -> float:
    """One worker, then two. Seconds of a core that a worker takes an image."""
    archive = kept or folder / "two"
    if not archive.exists():
        write_benchmark_archive(archive, studies=2 * studies, seed=1)
    found = sorted(archive.iterdir())
    for study in found[:studies]:
        shutil.copytree(study, folder / "one" / study.name)
    (folder / "warm").mkdir()
    for image in sorted(found[0].iterdir())[:2]:  # one for each worker
        shutil.copy(image, folder / "warm")
    cores = sorted(os.sched_getaffinity(0))
    rates, spent = [], []
    with Cluster(folder / "real", workers=0) as cluster:
        for number, images_below in enumerate((folder / "one", archive)):
            cluster.add_worker(inside=("taskset", "-c", str(cores[number % len(cores)])))
            cluster.wait_for(number + 1)
            for again in range(1 + number):  # until both have loaded the network and traced it
                _run(cluster, folder / "warm", folder / f"warm-{number}-{again}")
            before = [_cpu(worker.pid) for worker in cluster.workers]
            load = os.getloadavg()[0]
            images, wall = _run(cluster, images_below, folder / f"out-{number}")
            after = [_cpu(worker.pid) for worker in cluster.workers]
            took = [a - b for a, b in zip(after, before, strict=True)]
            rates.append(images / wall)
            spent.append(sum(took) / images)
            print(
                f"{number + 1} worker{'s' * number} of one core: {images} images in {wall:.1f} s, {rates[-1]:.3f} a second; "
                f"{spent[-1]:.2f} s of a core each, the worker{'s' * number} had {sum(took) / wall:.2f} cores; "
                f"load of the machine {load:.1f} before, {os.getloadavg()[0]:.1f} after, {len(cores)} cores",
                flush=True,
            )
    print(f"the second adds {rates[1] / rates[0] - 1:.2f} of the first in images a second,", end=" ")
    print(f"{2 * spent[0] / spent[1] - 1:.2f} in images for a core's second")
    return spent[0]


def command(folder: Path, images: int, seconds: float) -> None:
    """What leading costs. seconds: of a worker, an image."""
    many = folder / "many"
    many.mkdir()
    scale.grow(many, 0, images)
    tasks.read_headers, publish.attempt = stubs.read_headers, stubs.attempt
    tasks.analyse_and_score = stubs.analyse_and_score
    with Cluster(folder / "stubbed") as cluster:
        _run(cluster, folder / "warm", folder / "connected")  # imports, and what a beginning costs
        scheduler, own = _cpu(cluster.scheduler.pid), time.process_time()
        done, wall = _run(cluster, many / "archive", folder / "out-many")
        scheduler, own = _cpu(cluster.scheduler.pid) - scheduler, time.process_time() - own
    print(f"{done} images with stubs in {wall:.1f} s, {done / wall:.0f} a second; in a core's milliseconds an image:")
    for name, took in (("command", own), ("scheduler", scheduler)):
        print(
            f"  {name}: {1e3 * took / done:.2f}; busy at {seconds * done / took:.0f} workers of {seconds:.2f} s an image"
        )
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def _run(cluster: Cluster, archive: Path, out: Path) -> tuple[int, float]:
    began = time.perf_counter()
    config = RunConfig(archive=archive, out=out, settle_seconds=0, cluster=ClusterConfig(cluster.address))
    summary = pipeline.run(config, Console(quiet=True))
    wall = time.perf_counter() - began
    assert summary.failed == 0
    shutil.rmtree(out)
    return summary.analysed, wall


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
