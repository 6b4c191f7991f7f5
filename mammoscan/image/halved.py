"""Half the resolution of stored values: the low band of JPEG 2000's reversible transform, to the bit.

A lossless JPEG 2000 image holds this picture as it stands; of every other one it is computed here, so that what is found in
a picture does not hang on how it was compressed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BAND = 64  # rows of the result that are made at once: as many as a core's cache holds


def halved(picture: NDArray[np.unsignedinteger[Any]], bits: int) -> NDArray[np.unsignedinteger[Any]]:
    """Low band (rows / 2, columns / 2, rounded up) of a picture whose values take so many bits (T.800 F.4.2, F.4.8.1).

    Its pixels stand where every second one of the picture does, the first included.
    """
    rows = picture.shape[0]
    kind = np.int16 if bits < 14 else np.int32  # sums of two that were lifted once
    out = np.empty(((rows + 1) // 2, (picture.shape[1] + 1) // 2), picture.dtype)
    for first in range(0, len(out), _BAND):
        last = min(first + _BAND, len(out))
        # Two rows beyond both ends go into what is kept; the lifted ends of a band within the picture do not count.
        begin, end = max(0, 2 * first - 2), min(rows, 2 * last + 1)
        band = _low(picture[begin:end].astype(kind))[first - begin // 2 : last - begin // 2]
        np.clip(_low(band.T).T, 0, (1 << bits) - 1, out=out[first:last], casting="unsafe")
    return out


def _low(values: NDArray[Any]) -> NDArray[Any]:
    """The low band of the 5/3 transform along rows, beyond whose ends values are mirrored (T.800 F.4.8.1, F.3.7)."""
    even, odd = values[0::2], values[1::2]
    if not len(odd):
        return np.asarray(even)
    after = even[1:] if len(even) > len(odd) else np.concatenate([even[1:], even[-1:]])
    high = odd - ((even[: len(odd)] + after) >> 1)
    low = np.array(even)
    low[: len(odd)] += (np.concatenate([high[:1], high[:-1]]) + high + 2) >> 2
    if len(even) > len(odd):
        low[-1] += (2 * high[-1] + 2) >> 2
    return low
