"""How well a device is used: ``python -m tests.benchmarks.batches [--images N] [--no-network] [--no-stub]``.

First without a GPU and without TensorFlow: a stub takes a GPU's time, a fixed part a batch and one a crop, filled or
not, by itself while its caller goes on. Analysed images come at a rate that it could just keep up with if no crop of
its batches were empty and it never waited; the same images go through the queue of a run (``run.score``) and through
what was before it: 64 regions at once, the tiles of whole breasts apart, both filled up to whole batches, the caller
waiting for each. Then the bundled network on this machine's cores: the size of batch that measuring takes, and its
crops a second and for a core's second over those of batches of 16.

Seconds are for reading; shares and ratios mean something elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from pathlib import Path

import numpy as np

from mammoscan.core.domain import Analysed
from mammoscan.image.features import REGION_FEATURES
from mammoscan.model import bundle as bundles
from mammoscan.model.classify import CPU_BATCH, Classifier
from mammoscan.model.terms import CLINICAL
from mammoscan.run.config import RunConfig
from mammoscan.run.plan import PlannedImage
from mammoscan.run.score import Scorer
from tests.devices import TimedDevice
from tests.report import results

# A crop of 160 x 160 through ResNet50 up to conv5, in single precision: assumed of a GPU, not measured on one.
EACH = 0.0005
FIXED = 0.004
OLD_REGIONS = 64
SIDE = 160
ROUNDS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--no-network", action="store_true", help="the stub alone")
    parser.add_argument("--no-stub", action="store_true", help="the network alone")
    arguments = parser.parse_args()
    if not arguments.no_stub:
        stub(arguments.images)
    if not arguments.no_network:
        network()


def stub(count: int) -> None:
    """Both ways before a device that takes a GPU's time."""
    images = analysed_images(count)
    crops = sum(len(a.regions) + 2 for _, a in images)
    without = sum(not a.regions for _, a in images)
    print(f"{len(images)} images, {without} of them without a region, {crops} crops of {SIDE} x {SIDE}")
    print(f"stub of a device: {1e3 * FIXED:.1f} ms a batch and {1e3 * EACH:.2f} ms a crop of it; the caller's thread,")
    print("the device's and that of the results share this machine's cores with whatever else runs on it")
    for size in (16, 64, 256):
        compare(images, size)


def analysed_images(count: int) -> list[tuple[PlannedImage, Analysed]]:
    """Images with 0 to 20 regions, a quarter with none; they share their arrays, which nothing changes."""
    rng = np.random.default_rng(0)
    found = results.prediction(results.header(n=0))
    region = results.finding(results.header(n=0), 1, 0.5).region
    crops = rng.integers(0, 256, (20, SIDE, SIDE), dtype=np.uint8)
    features = rng.random((20, len(REGION_FEATURES)))
    made = []
    for number in range(count):
        header = results.header(n=number)
        regions = 0 if rng.random() < 0.25 else int(rng.integers(1, 21))
        analysed = Analysed(
            header=header, geometry=found.geometry, regions=(region,) * regions, features=features[:regions],
            image_features=found.image_features, crops=crops[:regions], tiles=crops[:2], preview=found.preview,
            flags=(), seconds=(),
        )  # fmt: skip
        made.append((PlannedImage(header, header, "key", None), analysed))
    return made


def compare(images: list[tuple[PlannedImage, Analysed]], size: int) -> None:
    """Both ways with batches of one size, the images coming as fast as full batches could be computed."""
    crops = sum(len(analysed.regions) + 2 for _, analysed in images)
    spacing = crops / size * (FIXED + EACH * size) / len(images)
    print(f"\nbatches of {size}; an image every {1e3 * spacing:.1f} ms is what the device can do at best")
    rates = {}
    for name, way in (("64 regions and tiles apart", old_way), ("one queue", new_way)):
        device = TimedDevice(size, fixed=FIXED, each=EACH)
        began = time.perf_counter()
        done = way(device, images, spacing)
        wall = time.perf_counter() - began
        assert done == len(images)
        rates[name] = done / wall
        print(
            f"  {name:27s} {rates[name]:6.1f} images a second ({rates[name] * spacing:.0%} of what is possible), "
            f"{device.fill:.1%} of the crops computed are real, device idle {device.idle:.1%}"
        )
    old, new = rates.values()
    print(f"  the queue's images a second over those of before: {new / old:.2f}")


def new_way(device: TimedDevice, images: list[tuple[PlannedImage, Analysed]], spacing: float) -> int:
    """As a run does: what is finished is collected as images come."""
    scorer = Scorer(bundles.load(None), RunConfig(archive=Path(), out=Path()), 0.3, device=lambda: device)
    done = 0
    with contextlib.closing(scorer):
        for image, analysed in coming(images, spacing):
            scorer.add(image, analysed)
            done += len(scorer.collect())
        return done + len(scorer.finish())


def old_way(device: TimedDevice, images: list[tuple[PlannedImage, Analysed]], spacing: float) -> int:
    """As runs did: the caller computes what waits when it has 64 regions or 32 images. It makes no predictions here."""

    def compute(crops: list[np.ndarray]) -> None:
        rows = np.concatenate(crops)
        for begin in range(0, len(rows), device.sizes.size):
            part = rows[begin : begin + device.sizes.size]
            device.step(part, np.zeros((len(part), len(CLINICAL)), np.float32)).outputs()

    done = 0
    waiting: list[Analysed] = []
    for number, (_, analysed) in enumerate(coming(images, spacing), 1):
        waiting.append(analysed)
        regions = sum(len(a.regions) for a in waiting)
        if regions >= OLD_REGIONS or len(waiting) >= 32 or number == len(images):
            compute([a.tiles for a in waiting])
            if regions:
                compute([a.crops for a in waiting])
            done += len(waiting)
            waiting = []
    return done


def coming(images: list[tuple[PlannedImage, Analysed]], spacing: float):
    """Images as workers give them: one every ``spacing`` seconds, and those that were missed at once."""
    began = time.perf_counter()
    for number, image in enumerate(images):
        time.sleep(max(0.0, began + number * spacing - time.perf_counter()))
        yield image


def network() -> None:
    """The bundled network on this machine: every size once, then the chosen one and 16 in turns."""
    began = time.perf_counter()
    device = Classifier(bundles.load(None))
    device.step(np.zeros((1, SIDE, SIDE), np.uint8), np.zeros((1, len(CLINICAL)), np.float32)).outputs()
    cores = len(os.sched_getaffinity(0))
    print(f"\nthe bundled network on {cores} cores: loaded and traced in {time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    while device.sizes.due(1e9, 10**9):
        device.sizes.measure(device.probe)
    print(f"all sizes tried in {time.perf_counter() - began:.1f} s; a run spends a twentieth of its time on it at most")
    for size, seconds in sorted(device.sizes.seconds_a_crop.items()):
        print(f"  batches of {size}: {1e3 * seconds:.1f} ms a crop, the same to the last bit as of {CPU_BATCH}")
    chosen = device.sizes.size
    alone: dict[int, list[tuple[float, float]]] = {size: [] for size in sorted({8, CPU_BATCH, 32, chosen})}
    for _ in range(ROUNDS):  # in turns, and the best of each: other work on the machine comes and goes
        for size, taken in alone.items():
            wall, cpu = time.perf_counter(), time.process_time()
            device.probe(size)
            taken.append(((time.perf_counter() - wall) / size, (time.process_time() - cpu) / size))
    best = {size: tuple(map(min, zip(*taken, strict=True))) for size, taken in alone.items()}
    for size, (wall, cpu) in best.items():
        print(f"batches of {size}: {1 / wall:.1f} crops a second, {1e3 * cpu:.1f} ms of a core each")
    print(
        f"batches of {chosen} were chosen; over those of {CPU_BATCH}: "
        f"{best[CPU_BATCH][0] / best[chosen][0]:.2f} in crops a second, "
        f"{best[CPU_BATCH][1] / best[chosen][1]:.2f} in crops for a core's second"
    )


if __name__ == "__main__":
    main()
