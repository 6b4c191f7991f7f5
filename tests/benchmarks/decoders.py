"""How fast the installed decoders are: ``python -m tests.benchmarks.decoders [--rounds N] [--rows N] [--bits 8 12 16]``.

A phantom of a mammogram in every transfer syntax with compression, in 8, 12 and 16 bits where the syntax has them, by every
decoder that is installed, by turns on one thread. Printed: CPU seconds (the median), their ratio to those of the way that
is used (image/pixels.py, from the data set to the stored values), and whether the values are the same as by that way; then
what it takes from stored to display values. Ratios mean something elsewhere, seconds do not.
"""

from __future__ import annotations

import argparse
import copy
import functools
import os
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pydicom
from pydicom import uid as u
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder

from mammoscan.core.domain import Density, Laterality, View
from mammoscan.image import pixels
from mammoscan.synthetic import jpeg_lossless, phantom
from mammoscan.synthetic.dicom import Shown, Subject, mammogram_dataset
from tests.benchmarks.network import processor

# For each syntax the bits that it is written in, and imagecodecs' decoders of it.
SYNTAXES: dict[u.UID, tuple[tuple[int, ...], tuple[str, ...]]] = {
    u.RLELossless: ((8, 12, 16), ()),
    u.JPEGLosslessSV1: ((8, 12, 16), ("jpeg8", "ljpeg", "jpegsof3")),
    u.JPEGLSLossless: ((8, 12, 16), ("jpegls",)),
    u.JPEG2000Lossless: ((8, 12, 16), ("jpeg2k",)),
    u.JPEG2000: ((8, 12, 16), ("jpeg2k",)),
    u.HTJ2KLossless: ((8, 12, 16), ("jpeg2k", "htj2k")),
    u.JPEGBaseline8Bit: ((8,), ("jpeg8",)),
    u.JPEGExtended12Bit: ((12,), ("jpeg8",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 12, 16])
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{processor()}; load {os.getloadavg()[0]:.1f}; {arguments.rows} rows")
    for bits in arguments.bits:
        image = picture(bits, arguments.rows)
        plain = dataset(image, bits)
        header = SimpleNamespace(rows=plain.Rows, columns=plain.Columns, photometric=plain.PhotometricInterpretation)
        taken = measured({"display": functools.partial(pixels.display_image, plain, header)}, arguments.rounds)[0]
        print(f"{bits:2d} bits, {'stored to display values':28s} {taken['display']:.3f} s")
        for syntax in (s for s, (written, _) in SYNTAXES.items() if bits in written):
            report(syntax, compressed(plain, syntax, image, bits), bits, arguments.rounds)
    print(f"load {os.getloadavg()[0]:.1f}")


def picture(bits: int, rows: int) -> np.ndarray:
    """A phantom (rows, columns): 12 bits and their grain, in 16 with four more below, in 8 without the lowest four."""
    spec = phantom.Spec(
        Laterality.LEFT, View.MLO, Density.B, (), height=rows, width=rows * 13 // 16, bits=12, patient=1
    )
    values = phantom.render(spec, 1)[0].astype(np.uint16)
    if bits == 8:
        return (values >> 4).astype(np.uint8)
    return values if bits == 12 else (values << 4) + np.random.default_rng(0).integers(0, 16, values.shape, np.uint16)


def dataset(image: np.ndarray, bits: int) -> pydicom.FileDataset:
    """An image without compression, whose air is declared as padding."""
    shown = Shown(bits=bits, window=((1 << (bits - 1), 1 << bits),), padding=0)
    return mammogram_dataset(
        image.astype(np.int64), laterality=Laterality.LEFT, view=View.MLO, subject=Subject("BENCH"), shown=shown,
        spacing_mm=0.07,
    )  # fmt: skip


def compressed(plain: pydicom.FileDataset, syntax: u.UID, image: np.ndarray, bits: int) -> pydicom.FileDataset:
    """The image in a transfer syntax."""
    ds = copy.deepcopy(plain)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([codestream(syntax, plain, image, bits)])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return ds


def codestream(syntax: u.UID, plain: pydicom.FileDataset, image: np.ndarray, bits: int) -> bytes:
    """The image's compressed bytes."""
    if syntax == u.RLELossless:
        return next(get_encoder(syntax).iter_encode(plain))
    if syntax == u.JPEGLosslessSV1:
        return jpeg_lossless.encode(image, bits)
    if syntax == u.JPEGLSLossless:
        return bytes(imagecodecs.jpegls_encode(image))
    if syntax == u.HTJ2KLossless:
        return bytes(imagecodecs.htj2k_encode(image, reversible=True))
    if syntax in {u.JPEG2000Lossless, u.JPEG2000}:
        options: dict[str, Any] = (
            {"reversible": True} if syntax == u.JPEG2000Lossless else {"reversible": False, "level": 45}
        )
        return bytes(imagecodecs.jpeg2k_encode(image, codecformat="J2K", bitspersample=bits, **options))
    return bytes(imagecodecs.jpeg8_encode(image, level=92, bitspersample=bits))


def report(syntax: u.UID, ds: pydicom.FileDataset, bits: int, rounds: int) -> None:
    """A line for each decoder of an image."""
    taken, values = measured(ways(syntax, ds, bits), rounds)
    size = len(ds.PixelData) / (ds.Rows * ds.Columns * ds.BitsAllocated / 8)
    print(f"{bits:2d} bits, {syntax.name}, {size:.3f} of its size")
    for name, seconds in sorted(taken.items(), key=lambda item: item[1]):
        same = "the same values" if np.array_equal(values[name], values["used"]) else "other values"
        print(f"    {name:24s} {seconds:6.3f} s, {seconds / taken['used']:5.2f} of what is used, {same}")


def ways(syntax: u.UID, ds: pydicom.FileDataset, bits: int) -> dict[str, Callable[[], np.ndarray]]:
    """All ways to the stored values: the one that is used, pydicom's plugins, imagecodecs' functions."""
    content = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
    decoder = get_decoder(syntax)
    found: dict[str, Callable[[], np.ndarray]] = {"used": lambda: pixels.decode(ds, ds.Rows, ds.Columns)}
    for plugin in decoder.available_plugins:
        found[plugin] = lambda plugin=plugin: decoder.as_array(ds, raw=True, decoding_plugin=plugin)[0]
    for name in SYNTAXES[syntax][1]:
        found[f"imagecodecs {name}"] = functools.partial(getattr(imagecodecs, f"{name}_decode"), content)
    return found


def measured(calls: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """The median CPU seconds of each call that works, taken by turns, and what it gives."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    given: dict[str, Any] = {}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            try:
                given[name] = call()
            except Exception as error:  # of many kinds: a decoder that cannot
                print(f"    {name}: {str(error).strip().splitlines()[-1][:120]}")
                continue
            seconds[name].append(time.process_time() - began)
    return {name: median(times) for name, times in seconds.items()}, given


if __name__ == "__main__":
    main()
