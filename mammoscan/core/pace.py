"""How fast work goes and how long it will take: numbers that settle."""

from __future__ import annotations

import bisect
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TOGETHER = 0.5  # seconds within which pieces count as done at once: the network gives back a batch of them
LEAST_SECONDS, LEAST_MARKS = 10.0, 3  # of measured work before a word is said of the time left
_MOST_MARKS = 1024


class Pace:
    """The speed of the later half of the time since the first piece was done.

    What comes before the first piece (workers start, the model loads) is no measure of those that follow. Half of the
    time is long enough to settle as work goes on, and follows work that becomes slower or faster. Pieces that come in
    batches are measured from batch to batch.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: list[float] = []
        self._counts: list[int] = []  # pieces done by then
        self.done = 0

    def add(self, amount: int) -> None:
        """Some pieces are done."""
        now = self._clock()
        self.done += amount
        if self._times and now - self._times[-1] < TOGETHER:
            self._counts[-1] = self.done
            return
        self._times.append(now)
        self._counts.append(self.done)
        if len(self._times) > _MOST_MARKS:  # the earlier half by every second mark
            half = len(self._times) // 2
            self._times = self._times[:half:2] + self._times[half:]
            self._counts = self._counts[:half:2] + self._counts[half:]

    def skip(self, amount: int) -> None:
        """Some pieces are done that took no work; they are no measure of the others."""
        self.done += amount
        self._counts = [count + amount for count in self._counts]

    def rate(self) -> float | None:
        """Pieces a second; None while there is nothing to measure."""
        found = self._measured()
        return None if found is None else found[0]

    def left(self, total: int) -> float | None:
        """Seconds until ``total`` pieces are done; None while nobody can say."""
        found = self._measured()
        if found is None or found[0] <= 0:
            return None
        rate, last, done = found
        if last < LEAST_MARKS or self._times[last] - self._times[0] < LEAST_SECONDS:
            return None
        return max(0.0, (total - done) / rate - (self._clock() - self._times[last]))

    def _measured(self) -> tuple[float, int, int] | None:
        """The rate, the last mark that it rests on, and the pieces done by then."""
        now, last = self._clock(), len(self._times) - 1
        if last >= 0 and now - self._times[last] < TOGETHER:
            last -= 1  # more of its batch may come
        if last < 1:
            return None
        end, done = self._times[last], self._counts[last]
        start = min(bisect.bisect_right(self._times, (self._times[0] + end) / 2) - 1, last - 1)
        since = self._times[start]
        # Where nothing came for longer than was measured, the waiting counts.
        until = now if now - end > end - since else end
        return (done - self._counts[start]) / (until - since), last, done


def span(seconds: float) -> str:
    """A time as a person would say it, no more exact than it is known."""
    if seconds < 10:
        return "under 10 s"
    if seconds < 55:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 3570:
        return f"{max(1, round(seconds / 60))} min"
    minutes = 10 * round(seconds / 600)
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 24 * 60 else f"{minutes / 1440:.1f} days"
