"""How fast the network is: ``python -m tests.benchmarks.network [--rounds N] [--batches 8 16 32 64]``.

The bundled model in three forms on the same crops, by turns: as it was trained (Keras, conv5 of every crop), folded in
float32 and in bfloat16; then conv5 as it is asked of an image's findings alone. Wall time and core time a crop, the
median over the rounds; ratios of the medians mean something elsewhere, seconds do not. The load of the machine at the
start and the end is printed: where others worked on it meanwhile, core time is the better judge.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mammoscan.model import bundle as bundles
from mammoscan.model import network
from mammoscan.model.classify import Classifier
from mammoscan.model.precision import Precision, vector_units
from mammoscan.model.terms import CLASSES, CLINICAL

IMAGE = 22  # crops of an image: 20 regions and two tiles
FINDINGS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32, 64])
    arguments = parser.parse_args()
    print(f"{processor()}; {len(os.sched_getaffinity(0))} cores; load {os.getloadavg()[0]:.1f}")
    model = bundles.load(None)
    forms = {"as trained": unfolded(model)}
    for precision in Precision:
        forms[f"folded {precision.value}"] = folded(model, precision)
    rng = np.random.default_rng(0)
    for size in arguments.batches:
        crops = rng.integers(0, 256, (size, model.crop.side, model.crop.side), dtype=np.uint8)
        facts = rng.normal(size=(size, len(CLINICAL))).astype(np.float32)
        taken: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for call in forms.values():
            call(crops, facts)
        for _ in range(arguments.rounds):
            for name, call in forms.items():
                wall, cpu = time.perf_counter(), time.process_time()
                call(crops, facts)
                taken[name].append(((time.perf_counter() - wall) / size, (time.process_time() - cpu) / size))
        walls = {name: median(wall for wall, _ in rounds) for name, rounds in taken.items()}
        cores = {name: median(cpu for _, cpu in rounds) for name, rounds in taken.items()}
        for name, wall in walls.items():
            print(
                f"batches of {size:2d}, {name:26s} {1 / wall:6.1f} crops a second ({walls['as trained'] / wall:.2f} of "
                f"as trained), {1e3 * cores[name]:5.1f} ms of a core each ({cores['as trained'] / cores[name]:.2f})"
            )
    for precision in Precision:
        wall, core = kinds(model, arguments.rounds, precision)
        print(
            f"kinds of {FINDINGS} findings in {precision.value}: {1e3 * wall:.0f} ms an image, {1e3 * core:.0f} ms of a core, "
            f"which is {1e3 * core / IMAGE:.1f} ms for each of its {IMAGE} crops, to be added to the folded ones"
        )
    print(f"load {os.getloadavg()[0]:.1f}")


def processor() -> str:
    """The processor's name and what matters here of what it can do."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    said = facts.get("model name", platform.processor() or "unknown processor")
    family = f"family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"
    return f"{said}, {family}, {', '.join(vector_units()) or 'vector units unknown'}"


def unfolded(model: bundles.Bundle) -> Callable[[Any, Any], Any]:
    """The Keras model with conv5 and all its heads."""
    import tensorflow as tf

    trained = network.resnet50(
        model.crop, len(model.clinical), len(CLASSES), heads=model.heads, shown=network.FROZEN_END
    )
    network.set_weights(trained, model.arrays())
    kernel = network.evidence_kernel(model.arrays(), conv5=False)[:, 2]

    @tf.function(reduce_retracing=True)
    def call(crops: Any, clinical: Any) -> Any:
        said = dict(trained([tf.cast(crops, tf.float32)[..., None], clinical], training=False))
        said["evidence"] = tf.reduce_sum(said.pop("maps") * kernel, axis=-1)
        return said

    return lambda crops, facts: [np.asarray(v) for v in call(tf.constant(crops), tf.constant(facts)).values()]


def folded(model: bundles.Bundle, precision: Precision) -> Callable[[Any, Any], Any]:
    """The network as runs use it, without the kinds of findings."""
    devices: dict[int, Classifier] = {}

    def call(crops: Any, facts: Any) -> Any:
        if len(crops) not in devices:
            devices.clear()
            devices[len(crops)] = Classifier(model, batch_size=len(crops), precision=precision)
        return devices[len(crops)].step(crops, facts).outputs()

    return call


def kinds(model: bundles.Bundle, rounds: int, precision: Precision) -> tuple[float, float]:
    """Seconds and core seconds that it takes to name the kinds of an image's findings, which runs do after its score."""
    device = Classifier(model, precision=precision)
    said = {name: rows[:FINDINGS] for name, rows in device.probe(FINDINGS).items()}
    device.kinds(said)
    taken = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        device.kinds(said)
        taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    return median(wall for wall, _ in taken), median(cpu for _, cpu in taken)


if __name__ == "__main__":
    main()
