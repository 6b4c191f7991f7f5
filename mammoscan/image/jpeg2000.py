"""JPEG 2000 by the fastest build of OpenJPEG: plain codestreams; of what it refuses, the other decoders have to tell.

Half the resolution is decoded alone where it is exactly what ``halved`` makes of the whole: the reversible transform of the
image in one tile, whose coding nothing changes on the way.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.image.codestream import Codestream

_SIZ, _COD, _QCD, _COM, _SOT, _SOD, _PLT = 0xFF51, 0xFF52, 0xFF5C, 0xFF64, 0xFF90, 0xFF93, 0xFF58
_MAIN = {_SIZ, _COD, _QCD, _COM, 0xFF55, 0xFF57}  # what may stand before the first tile-part: lengths (TLM, PLM), too
_OF_TILE = {_COM, _PLT}  # and in its header
_REVERSIBLE = 1  # transformation (T.800 table A.20)


def values(found: Codestream) -> NDArray[np.unsignedinteger[Any]] | None:
    """The values (rows, columns), 8 bits each up to a precision of 8, else 16; None where other decoders have to tell.

    OpenJPEG's strict mode refuses what is cut or damaged; it is the same library that is in the other decoders.
    """
    if not _is_plain(found):
        return None
    try:
        decoded = imagecodecs.jpeg2k_decode(found.content, numthreads=1)
    except imagecodecs.Jpeg2kError:
        return None
    kind = np.uint8 if found.precision <= 8 else np.uint16
    return decoded if decoded.shape == (found.rows, found.columns) and decoded.dtype == kind else None


def low_band(found: Codestream) -> NDArray[np.unsignedinteger[Any]] | None:
    """The values at half the resolution, as ``halved`` makes them of ``values``; None where the whole has to tell.

    All packets are walked through: what is cut or of impossible structure is refused. Of those that are left out the coded
    bits are not read.
    """
    if not (_is_plain(found) and _has_low_band(found)):
        return None
    try:
        with Image.open(io.BytesIO(found.content), formats=["JPEG2000"]) as picture:
            picture.reduce = 1
            picture.load()
            decoded = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    kind = np.dtype(np.uint8 if found.precision <= 8 else np.uint16)
    if decoded.shape != ((found.rows + 1) // 2, (found.columns + 1) // 2) or decoded.dtype != kind:
        return None
    # Pillow fills all bits.
    return np.asarray(np.right_shift(decoded, 8 * kind.itemsize - found.precision), kind)


def _has_low_band(found: Codestream) -> bool:
    """Whether there is one tile, decomposed at least once and reversibly, and nothing that codes parts in other ways."""
    content = found.content
    width, height, x0, y0 = struct.unpack_from(">4I", content, 24)
    at, allowed, is_reversible = 2, _MAIN, False
    while at + 12 <= len(content):
        marker, length = struct.unpack_from(">2H", content, at)
        if marker == _SOD:
            break
        if marker == _COD:
            is_reversible = content[at + 9] > 0 and content[at + 13] == _REVERSIBLE
        if marker == _SOT:
            allowed = _OF_TILE
        elif marker not in allowed:
            return False
        at += 2 + length
    return is_reversible and (x0, y0) == (0, 0) and width >= found.columns and height >= found.rows


def _is_plain(found: Codestream) -> bool:
    """Whether there is one component of unsigned values, on a grid that begins at its corner and leaves nothing out."""
    x0, y0 = struct.unpack_from(">2I", found.content, 16)
    return (
        found.components == 1
        and found.precision in range(1, 17)
        and (x0, y0) == (0, 0)
        and found.content[42:45] == bytes([found.precision - 1, 1, 1])
    )
