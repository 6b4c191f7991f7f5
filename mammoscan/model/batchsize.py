"""How many crops go through the network at once: a start, and what is found faster while it works. No TensorFlow."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Outputs = Mapping[str, NDArray[np.float32]]

log = logging.getLogger(__name__)

SMALLEST = 8
# A larger batch needs more memory, makes the last one emptier and is waited for longer: it must be worth it.
NEAR = 0.03
# Of the time that the device has worked, so much may go into trying sizes: a short run tries none, and a long one
# has lost a twentieth at most by the time it has tried them all.
SHARE = 0.05


class BatchSizes:
    """The size of batch in use, and the sizes that say the same.

    A size counts only if its outputs are those of the ``reference`` to the last bit, wherever a crop stands in the
    batch: another kernel takes its sums in another order, and which size is faster hangs on what else the machine
    does, so that a run that was stopped and resumed would differ from one that was not. Of those that count, the
    smallest whose time a crop is within ``NEAR`` of the best is used.

    reference: what is used at first, a function of the machine alone. most: the largest that is tried. given: the
    user's own size (0: none), used as it is.
    """

    def __init__(self, reference: int, most: int, *, given: int = 0) -> None:
        self.reference = given or reference
        self.size = self.reference
        self.seconds_a_crop: dict[int, float] = {}  # of the sizes that say the same
        self._holding = [self.reference]
        self._spent = 0.0
        self._said: Outputs = {}
        others = [SMALLEST << n for n in range(16) if SMALLEST << n <= most and SMALLEST << n != self.reference]
        self._untried = [] if given else [self.reference, *others]

    def fitting(self, count: int) -> int:
        """The smallest size that says the same and holds ``count`` crops, 1 to ``size``."""
        return min(n for n in self._holding if n >= count)

    def due(self, worked: float, crops: int) -> bool:
        """Whether a size should be tried now. worked: seconds in which the device has computed ``crops`` so far."""
        if not self._untried or not crops:
            return False
        cost = 2 * self._untried[0] * worked / crops
        return self._spent + cost <= SHARE * worked

    def measure(self, run: Callable[[int], Outputs], *, clock: Callable[[], float] = time.perf_counter) -> None:
        """Try the next size: once for what it says, once for its time.

        run: computes that many probes, of which the first ``reference`` are repeated.
        """
        began = clock()
        size = self._untried.pop(0)
        said = run(size)
        between = clock()
        run(size)
        ended = clock()
        self._spent += ended - began
        if size == self.reference:
            self._said = said
        if not _same(said, self._said):
            log.info("batches of %d crops differ in the last bits from those of %d: not used", size, self.reference)
            return
        self.seconds_a_crop[size] = (ended - between) / size
        best = min(self.seconds_a_crop.values())
        if size > self.size and self.seconds_a_crop[size] > best * (1 + NEAR):
            self._untried = [n for n in self._untried if n < size]  # larger is slower already
        self._holding = sorted({*self._holding, size})
        self.size = min(n for n, seconds in self.seconds_a_crop.items() if seconds <= best * (1 + NEAR))
        log.info("batches of %d crops: %.2f ms a crop; in use: %d", size, 1e3 * best, self.size)


def _same(said: Outputs, reference: Outputs) -> bool:
    """Whether every row is that of the same probe among the reference's."""
    return said.keys() == reference.keys() and all(
        np.array_equal(rows, np.take(reference[name], np.arange(len(rows)) % len(reference[name]), axis=0))
        for name, rows in said.items()
    )
