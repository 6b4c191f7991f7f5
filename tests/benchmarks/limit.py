"""What the same work costs at least on this machine, in core seconds an image: parts that nothing can do without.

Each part is measured alone, in one process, on the files and the results of a finished run: the fastest decoder that is
installed and exact, the network in full batches, the objects of a study rendered and written. Nothing else is counted:
no headers, no display values, no segmentation, no features.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1

from mammoscan.core import store
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import Header, Prediction, Scored
from mammoscan.image import jpeg2000
from mammoscan.image.analyse import drawn
from mammoscan.image.codestream import codestream, element_of, image_bytes
from mammoscan.image.halved import halved
from mammoscan.model import bundle as bundles
from mammoscan.model.classify import MOST_CPU_BATCH, Classifier
from mammoscan.model.precision import Precision
from mammoscan.model.terms import CLINICAL
from mammoscan.run import codec, publish
from mammoscan.run.config import RunConfig
from mammoscan.run.ledger import Ledger
from mammoscan.run.plan import StudyPlan
from tests.report import results

HALF_DECODER = "half the resolution by pillow"
TILES = 2  # of a whole breast, which go through the network with the crops of its regions
FILES = 8  # decoded: an archive of the benchmark repeats its pictures
STUDIES = 2
ROUNDS = 3
_NAMES = {JPEGLosslessSV1: "JPEG Lossless", JPEG2000Lossless: "JPEG 2000"}
_DIRECT = {JPEGLosslessSV1: ("ljpeg_decode", "jpegsof3_decode"), JPEG2000Lossless: ("jpeg2k_decode",)}  # of imagecodecs


@dataclass(frozen=True, slots=True)
class Limit:
    """Core seconds an image by part, and the precision of the network."""

    precision: str
    parts: dict[str, float]


def measured(mammograms: Sequence[Header], out: Path, precision: str, *, half: bool = False) -> Limit:
    """The limit for the images of a run. out: its results. precision: that it computed in. half: see ``decoding``."""
    with Ledger(out) as ledger:
        scored = [codec.decode_scored(_result(ledger, h), h) for h in mammograms]
    crops = float(np.mean([s.candidates + TILES for s in scored]))
    parts = decoding(mammograms[:FILES], half=half)
    seconds, size = network(Precision(precision))
    parts[f"network, {crops:.1f} crops of {1e3 * seconds:.2f} ms in batches of {size}"] = crops * seconds
    parts["objects of a study"] = objects(scored)
    return Limit(precision, parts)


def _result(ledger: Ledger, header: Header) -> bytes:
    record = ledger.image(header.sop_instance_uid)
    assert record is not None
    return record.result


def decoding(mammograms: Sequence[Header], *, half: bool = False) -> dict[str, float]:
    """Core seconds of the fastest exact decoder, by syntax, each times its share of the files.

    half: whether half the resolution is all that is wanted: then of what can be decoded so, that is timed.
    """
    found: dict[str, float] = {}
    by_syntax = sorted(mammograms, key=lambda h: _dataset(h).file_meta.TransferSyntaxUID)
    for syntax, group in groupby(by_syntax, key=lambda h: _dataset(h).file_meta.TransferSyntaxUID):
        taken: dict[str, list[float]] = {}
        count = 0
        for header in group:
            count += 1
            ds = _dataset(header)
            truth = None
            ways = decoders(ds)
            if half and syntax == JPEG2000Lossless:
                ways[HALF_DECODER] = lambda ds=ds: jpeg2000.low_band(codestream(image_bytes(element_of(ds))[0]))
            for decoder, decode in ways.items():
                pixels, seconds = _timed(decode)
                truth = pixels if truth is None else truth
                wanted = halved(np.squeeze(truth), ds.BitsStored) if decoder == HALF_DECODER else np.squeeze(truth)
                if np.array_equal(np.squeeze(pixels), wanted):
                    taken.setdefault(decoder, []).append(seconds)
        # A decoder that was inexact once does not count.
        means = {name: float(np.mean(seconds)) for name, seconds in taken.items() if len(seconds) == count}
        name = _NAMES.get(syntax, syntax.name)
        print(f"decoders of {name}: " + ", ".join(f"{n} {s:.3f} s" for n, s in sorted(means.items())))
        best = min(means, key=lambda name: means[name])
        found[f"{name} by {best}, {means[best]:.3f} for {count} of {len(mammograms)}"] = (
            means[best] * count / len(mammograms)
        )
    return found


def decoders(ds: pydicom.Dataset) -> dict[str, Callable[[], Any]]:
    """What decodes a picture, by name; first gdcm, by which the others are judged."""
    syntax = ds.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)

    def by_plugin(name: str) -> Callable[[], Any]:
        return lambda: decoder.as_array(ds, raw=True, decoding_plugin=name)[0]

    found = {name: by_plugin(name) for name in sorted(decoder.available_plugins, key=lambda n: (n != "gdcm", n))}
    if importlib.util.find_spec("imagecodecs"):
        import imagecodecs

        frame = next(generate_frames(ds.PixelData, number_of_frames=1))
        for name in _DIRECT.get(syntax, ()):
            function = getattr(imagecodecs, name)
            found[f"imagecodecs.{name}"] = lambda function=function: function(frame)
    return found


def _dataset(header: Header) -> pydicom.Dataset:
    return pydicom.dcmread(header.file.path)


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and the core seconds of the fastest of some calls."""
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        given = function()
        taken.append(time.process_time() - began)
    return given, min(taken)


def network(precision: Precision) -> tuple[float, int]:
    """Core seconds a crop, and the size of the batch that takes least."""
    bundle = bundles.load(None)
    rng = np.random.default_rng(0)
    best = (np.inf, 0)
    size = 16
    while size <= MOST_CPU_BATCH:
        device = Classifier(bundle, batch_size=size, precision=precision)
        crops = rng.integers(0, 256, (size, bundle.crop.side, bundle.crop.side), dtype=np.uint8)
        facts = np.zeros((size, len(CLINICAL)), np.float32)
        device.step(crops, facts).outputs()  # traces
        _, seconds = _timed(lambda device=device, crops=crops, facts=facts: device.step(crops, facts).outputs())
        best = min(best, (seconds / size, size))
        size *= 2
    return best


def objects(scored: Iterable[Scored]) -> float:
    """Core seconds an image to render and write everything of its study, as a run writes by default."""
    write = RunConfig(archive=Path(), out=Path()).write
    bundle = bundles.load(None)
    taken, images = 0.0, 0
    studies = groupby(scored, key=lambda s: s.header.study.study_instance_uid)
    with tempfile.TemporaryDirectory() as temporary:
        for number, (uid, group) in zip(range(STUDIES), studies, strict=False):
            predictions = tuple(
                Prediction.of(s, drawn(s.header, AnalysisConfig(), bundle.crop, anonymous=False)) for s in group
            )
            plan = StudyPlan(uid, tuple(p.header for p in predictions), (), (), ())
            context = replace(results.CONTEXT, config_digest=AnalysisConfig().digest())

            def written(folder: Path, plan=plan, predictions=predictions, context=context) -> None:
                result = publish.study_result(plan, predictions, (), bundle.breast)
                for name, content in publish.rendered(result, context, write).items():
                    store.write_atomic(folder / name, content)

            _, seconds = _timed(lambda: written(Path(temporary) / str(number)))  # noqa: B023 (called at once)
            taken, images = taken + seconds, images + len(predictions)
    return taken / images
