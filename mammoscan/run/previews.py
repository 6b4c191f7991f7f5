"""The small pictures of images between their analysis and their study's report: files below the results folder.

A picture is written where it is drawn and read where it is printed; it goes when the report stands. One that is lost is
drawn again from its source.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from typing import TYPE_CHECKING

import numpy as np

from mammoscan.core import store
from mammoscan.core.domain import Preview

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ".previews"
_DIGEST = 32  # bytes before the rest
_LENGTH = 8  # bytes of how long the large picture is, which stands before the arrays


def place(out: Path, key: str) -> Path:
    """Where the picture of the image with this key lies."""
    return out / FOLDER / key[:2] / f"{key[:40]}.npz"


def write(path: Path, preview: Preview) -> None:
    """Write a picture; a whole file or none."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream, pixels=preview.pixels, dense=np.packbits(preview.dense, axis=1), scale=np.float64(preview.scale)
    )
    content = len(preview.large).to_bytes(_LENGTH, "big") + preview.large + stream.getvalue()
    store.write_scratch(path, hashlib.sha256(content).digest() + content)


def read(path: Path) -> Preview | None:
    """A picture, None where it is not there, not whole or cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, rest = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(rest).digest() != digest:
        return None
    end = _LENGTH + int.from_bytes(rest[:_LENGTH], "big")
    with np.load(io.BytesIO(rest[end:]), allow_pickle=False) as held:
        pixels = held["pixels"]
        dense = np.unpackbits(held["dense"], axis=1, count=pixels.shape[1]).astype(bool)
        return Preview(pixels, dense, float(held["scale"]), rest[_LENGTH:end])


def missing(width: int, height: int) -> Preview:
    """A black picture, of an image that is not in the archive any more: width and height of the source in pixels."""
    scale = min(1.0, 900 / max(width, height))
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    return Preview(np.zeros(shape, np.uint8), np.zeros(shape, bool), scale)


def remove(path: Path) -> None:
    """Remove a picture that is no longer needed."""
    path.unlink(missing_ok=True)


def remove_all(out: Path) -> None:
    """Remove all pictures: nothing is left to be reported."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)
