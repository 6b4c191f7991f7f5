"""JPEG 2000 by the fastest build of OpenJPEG: plain codestreams; of what it refuses, the other decoders have to tell."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mammoscan.image.codestream import Codestream

_SIGNED = 0x80  # in Ssiz (T.800 A.5.1)


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


def _is_plain(found: Codestream) -> bool:
    """Whether there is one component of unsigned values, on a grid that begins at its corner and leaves nothing out."""
    x0, y0 = struct.unpack_from(">2I", found.content, 16)
    return (
        found.components == 1
        and found.precision in range(1, 17)
        and (x0, y0) == (0, 0)
        and found.content[42:45] == bytes([found.precision - 1, 1, 1])
    )
