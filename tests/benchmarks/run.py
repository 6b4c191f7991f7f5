"""How fast a run is, and what it is made of: ``python -m tests.benchmarks.run [--studies N]``.

A generated archive of 4096 x 3328 JPEG Lossless and JPEG 2000 mammograms is analysed by the real
command in processes of its own. Printed: images a second, CPU seconds by stage, peak memory (sum
of the proportional set sizes of all its processes), the share of the wall time in which all cores
work, and the ratio of the wall time to that of the stages run alone, one after the other, on the
same cores. Seconds are for reading; machines differ, so only the ratios mean something elsewhere.
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
from pathlib import Path

import psutil

from tests import headers
from tests.benchmarks.generate import write_benchmark_archive

SAMPLE_SECONDS = 0.5
# Asking for proportional set sizes walks all page tables: some 0.1 s of a core that the run then lacks.
MEMORY_SECONDS = 4.0
# A core counts as working when it works for this share of a sample.
BUSY = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=6)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, default=None, help="keep the archive here and use it again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        archive = folder / "archive"
        if not archive.exists():
            write_benchmark_archive(archive, studies=arguments.studies, seed=1)
        report(measure(archive, Path(temporary) / "reports", arguments.workers), arguments.workers, archive)


def measure(archive: Path, out: Path, workers: int) -> dict[str, object]:
    """Run the command and watch its whole process tree."""
    command = [
        sys.executable, "-m", "mammoscan", "run", str(archive), "--out", str(out),
        "--workers", str(workers), "--settle-seconds", "0", "--json",
    ]  # fmt: skip
    cores = len(os.sched_getaffinity(0))
    own = psutil.Process().cpu_times()
    before = own.user + own.system
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    tree = psutil.Process(process.pid)
    samples: list[float] = []
    peak = 0
    cpu: dict[int, float] = {}
    last_time, last_total, memory_at = began, 0.0, began
    while process.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        members = _members(tree)
        for member in members:
            with contextlib.suppress(psutil.Error):
                times = member.cpu_times()
                cpu[member.pid] = times.user + times.system
        now, total = time.monotonic(), sum(cpu.values())
        samples.append((total - last_total) / (now - last_time))
        last_time, last_total = now, total
        if now - memory_at >= MEMORY_SECONDS:
            memory_at = now
            peak = max(peak, sum(map(_memory, members)))
    wall = time.monotonic() - began
    watching = psutil.Process().cpu_times()
    assert process.stdout is not None
    summary = json.loads(process.stdout.read())
    if process.returncode != 0:
        raise SystemExit(f"the run ended with status {process.returncode}: {summary}")
    busy = sum(s >= BUSY * cores for s in samples) / len(samples)
    return {
        "wall": wall, "summary": summary, "peak": peak, "busy": busy,
        "mean_cores": sum(cpu.values()) / wall, "cores": cores,
        "watching": (watching.user + watching.system - before) / wall,
    }  # fmt: skip


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


def stages_alone(archive: Path, images: int) -> dict[str, float]:
    """Seconds an image of every stage, run alone in this process, over a sample of the archive."""
    from mammoscan.archive import discover
    from mammoscan.core.domain import Analysed, Header
    from mammoscan.image.analyse import analyse
    from mammoscan.model import bundle as bundles
    from mammoscan.run.config import RunConfig
    from mammoscan.run.plan import PlannedImage
    from mammoscan.run.score import Scorer

    files = list(discover.walk(archive, out=None))
    mammograms = [h for h in headers.read(files) if isinstance(h, Header)][:images]
    config = RunConfig(archive=archive, out=archive)
    bundle = bundles.load(None)
    seconds: dict[str, float] = {}
    analysed = []
    for header in mammograms:
        result = analyse(header, config.analysis, bundle.crop)
        assert isinstance(result, Analysed), result
        analysed.append((header, result))
        for name, value in result.seconds:
            seconds[name] = seconds.get(name, 0.0) + value / len(mammograms)
    scorer = Scorer(bundle, config, 0.5)
    scorer.add(PlannedImage(analysed[0][0], analysed[0][0], "", None), analysed[0][1])
    scorer.finish()  # loads TensorFlow and traces the network, which a long run pays once
    before = scorer.seconds
    for header, result in analysed:
        scorer.add(PlannedImage(header, header, "", None), result)
    scorer.finish()
    seconds["classify (all cores)"] = (scorer.seconds - before) / len(mammograms)
    return seconds


def report(measured: dict[str, object], workers: int, archive: Path) -> None:
    summary = measured["summary"]
    assert isinstance(summary, dict)
    images = int(summary["analysed"])
    wall, cores = float(measured["wall"]), int(measured["cores"])  # type: ignore[arg-type]
    print(f"{images} images of 4096 x 3328, {workers} workers, {cores} cores, wall {wall:.1f} s")
    print(f"images a second: {images / wall:.3f}")
    for name, value in summary["stage_seconds"].items():
        print(f"  {name}: {value:.1f} s in all, {value / images:.2f} s an image")
    print(f"peak memory, all processes: {int(measured['peak']) / 1e9:.2f} GB")  # type: ignore[call-overload]
    print(f"share of the wall time in which all cores work: {float(measured['busy']):.1%}")  # type: ignore[arg-type]
    print(f"cores in use on average: {float(measured['mean_cores']):.2f} of {cores}")  # type: ignore[arg-type]
    print(f"this watcher took {float(measured['watching']):.1%} of a core")  # type: ignore[arg-type]
    alone = stages_alone(archive, min(images, 8))
    classify = alone.pop("classify (all cores)")
    ideal = images * (sum(alone.values()) / cores + classify)
    for name, value in (*alone.items(), ("classify (all cores)", classify)):
        print(f"  alone: {name}: {value:.2f} s an image")
    print(f"wall time over the sum of the stages alone on the same cores: {wall / ideal:.2f}")


if __name__ == "__main__":
    main()
