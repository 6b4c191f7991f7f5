"""What the frozen part of the network says of crops, computed once and kept on disk.

A crop is known by the hash of its pixels, so that a second training with other labels, other folds
or other regions computes only what is new. Records are appended; a stopped run loses one batch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.model import network
from mammoscan.model.network import CHANNELS, POOLED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.image.crops import CropGeometry

log = logging.getLogger(__name__)

BATCH = 32
_KEY = 20  # bytes of SHA-1: an address, no protection


class MapStore:
    """conv4 maps (h, w, 1024) and pooled conv3 and conv4 features (POOLED,) of crops, in half precision."""

    def __init__(self, folder: Path, weights: Mapping[str, NDArray[Any]], crop: CropGeometry) -> None:
        decided = [crop.facts(), network.POOLS, network.digest(weights)]
        identity = hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:12]
        self._folder = folder / f"conv4-{identity}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._weights = weights
        self.crop = crop
        cells = crop.side // network.STRIDE
        self.shape = (cells, cells, CHANNELS)
        self._sizes = {"keys": _KEY, "maps": 2 * int(np.prod(self.shape)), "pooled": 2 * POOLED}
        self._call: Any = None
        self._at: dict[bytes, int] = {}
        self._open()

    def _open(self) -> None:
        """Read the keys; cut off what a stopped run left of a record."""
        paths = {name: self._folder / f"{name}.bin" for name in self._sizes}
        count = min((path.stat().st_size if path.exists() else 0) // self._sizes[name] for name, path in paths.items())
        for name, path in paths.items():
            with path.open("ab") as stream:
                stream.truncate(count * self._sizes[name])
        keys = paths["keys"].read_bytes()
        self._at = {keys[i * _KEY : (i + 1) * _KEY]: i for i in range(count)}

    def rows(self, crops: NDArray[np.uint8]) -> NDArray[np.intp]:
        """Record numbers of crops (n, side, side); what is not yet there is computed."""
        keys = [hashlib.sha1(np.ascontiguousarray(c).tobytes(), usedforsecurity=False).digest() for c in crops]
        missing = {key: index for index, key in enumerate(keys) if key not in self._at}
        if missing:
            self._compute(crops, missing)
        return np.array([self._at[key] for key in keys], np.intp)

    def maps(self) -> NDArray[np.float16]:
        """All maps, memory-mapped, (records, h, w, 1024)."""
        return np.memmap(self._folder / "maps.bin", np.float16, "r", shape=(len(self._at), *self.shape))

    def pooled(self) -> NDArray[np.float16]:
        """All pooled features, memory-mapped, (records, POOLED)."""
        return np.memmap(self._folder / "pooled.bin", np.float16, "r", shape=(len(self._at), POOLED))

    def _compute(self, crops: NDArray[np.uint8], missing: Mapping[bytes, int]) -> None:
        if self._call is None:
            self._call = network.frozen(self.crop, self._weights)
        items = list(missing.items())
        began = time.monotonic()
        with (
            (self._folder / "maps.bin").open("ab") as maps,
            (self._folder / "pooled.bin").open("ab") as pooled,
            (self._folder / "keys.bin").open("ab") as keys,
        ):
            for begin in range(0, len(items), BATCH):
                part = items[begin : begin + BATCH]
                filled = np.zeros((BATCH, self.crop.side, self.crop.side, 1), np.float32)
                filled[: len(part)] = crops[[index for _, index in part]][..., None]
                out, features = (np.asarray(a)[: len(part)].astype(np.float16) for a in self._call(filled))
                maps.write(out.tobytes())
                pooled.write(features.tobytes())
                maps.flush()
                pooled.flush()
                keys.write(b"".join(key for key, _ in part))  # last: a record counts when its key is there
                keys.flush()
                for key, _ in part:
                    self._at[key] = len(self._at)
                if begin // BATCH % 20 == 19:
                    rate = (begin + len(part)) / (time.monotonic() - began)
                    left = (len(items) - begin - len(part)) / rate
                    log.info(
                        "frozen layers: %d of %d crops, %.1f/s, %.0f s left", begin + len(part), len(items), rate, left
                    )
