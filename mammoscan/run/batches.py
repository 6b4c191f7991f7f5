"""One queue of crops before one device: batches that mix images and studies, full but for the last.

Three threads share it. The caller's puts pieces in and takes results out. The device's opens the device with the
first piece (TensorFlow loads there, while workers are busy), begins a batch as soon as one is full, and only then
waits for the one before, so that a GPU always has its next batch, and outputs are copied while it computes. The
third makes results of pieces of which all crops are done.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mammoscan.model.batchsize import Outputs
    from mammoscan.model.classify import Device, Step

Piece = TypeVar("Piece")
Result = TypeVar("Result")

# Crops that may wait before ``put`` does: some batches, so that the device need not, and of small batches more, so
# that the caller, which leads the workers, does not stop for each. 512 are 13 MB.
BATCHES_AHEAD = 4
CROPS_AHEAD = 512
COMPUTED_AHEAD = 2  # batches of outputs that wait for the third thread


class BatchQueue(Generic[Piece, Result]):
    """Pieces of work of some crops each, computed together, given back as they are finished.

    open_device: called once, in the device's thread, when the first crop has come. conclude: makes a piece's
    result of its outputs (one row a crop), in a thread of its own; of a piece without crops, which has nothing to
    wait for, at once. What the device raises, or either of them, reaches the caller after the results of all that
    was computed before; what was put in and not given back is then ``pending``.

    For one caller's thread. seconds: in which the device was opened, computed or was measured.
    """

    def __init__(self, open_device: Callable[[], Device], conclude: Callable[[Piece, Outputs], Result]) -> None:
        self._open_device = open_device
        self._conclude = conclude
        self._moved = threading.Condition()  # of everything below
        self._waiting: deque[_Slice[Piece]] = deque()
        self._crops_waiting = 0
        self._computed: deque[tuple[list[_Slice[Piece]], Outputs] | BaseException] = deque()
        self._finished: list[Result] = []
        self._threads: list[threading.Thread] = []
        self._ahead = CROPS_AHEAD
        self._draining = False
        self._closed = False
        self._error: BaseException | None = None
        self.pending = 0
        self.seconds = 0.0

    def put(self, piece: Piece, crops: NDArray[np.uint8], clinical: NDArray[np.float32]) -> None:
        """Queue a piece; waits while too many crops do. crops: (n, side, side). clinical: (n, len(CLINICAL))."""
        with self._moved:
            if self._closed:
                raise RuntimeError("the queue is closed")
            self._moved.wait_for(lambda: self._error is not None or self._crops_waiting < self._ahead)
            if self._error is not None:
                raise self._error
            self.pending += 1
            if not len(crops):
                self._finished.append(self._conclude(piece, {}))
                return
            self._waiting.append(_Slice(_Work(piece, crops, clinical), 0, len(crops)))
            self._crops_waiting += len(crops)
            self._moved.notify_all()
        if not self._threads:
            # Daemons: a caller that dies without ``close`` must not be held by them.
            self._threads = [threading.Thread(target=f, daemon=True) for f in (self._device_thread, self._conclusions)]
            for thread in self._threads:
                thread.start()

    def collect(self) -> list[Result]:
        """What is finished by now; never waits."""
        with self._moved:
            if self._error is not None and not self._finished:
                raise self._error
            return self._given()

    def finish(self) -> list[Result]:
        """Compute what waits, also if it fills no batch, and give back all that is pending."""
        with self._moved:
            self._draining = True
            self._moved.notify_all()
            try:
                self._moved.wait_for(lambda: self._error is not None or len(self._finished) == self.pending)
            finally:
                self._draining = False
            if self._error is not None:
                raise self._error
            return self._given()

    def close(self) -> None:
        """End the threads, after the batch in which the device is; what is pending is forgotten."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._waiting.clear()
        self._computed.clear()

    def _given(self) -> list[Result]:
        given, self._finished = self._finished, []
        self.pending -= len(given)
        return given

    # ------------------------------------------------------------------ threads

    def _device_thread(self) -> None:
        try:
            began = time.perf_counter()
            device = self._open_device()
            self.seconds += time.perf_counter() - began
            self._feed(device)
        except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
            with self._moved:
                self._computed.append(error)
                self._moved.notify_all()

    def _feed(self, device: Device) -> None:
        worked, crops, last_end = 0.0, 0, 0.0
        running: _Begun[Piece] | None = None
        while True:
            due = device.sizes.due(worked, crops)
            if due and running is None:
                began = time.perf_counter()
                device.sizes.measure(device.probe)
                self.seconds += time.perf_counter() - began
            with self._moved:
                self._ahead = max(CROPS_AHEAD, BATCHES_AHEAD * device.sizes.size)
            # What is measured is measured alone.
            taken = None if due and running is not None else self._take(device.sizes.size, wait=running is None)
            begun: _Begun[Piece] | None = None
            try:
                if taken is not None:
                    begun = _Begun(taken, time.perf_counter(), device.step(*_stacked(taken)))
            finally:  # also of the batch before one that fails
                if running is not None:
                    outputs = running.step.outputs()
                    end = time.perf_counter()
                    seconds = end - max(running.at, last_end)
                    worked, last_end, crops = worked + seconds, end, crops + sum(s.count for s in running.slices)
                    self.seconds += seconds
                    self._hand_over(running.slices, outputs)
            if running is None and begun is None:
                return  # closed
            running = begun

    def _take(self, size: int, *, wait: bool) -> list[_Slice[Piece]] | None:
        """The next batch: a full one, or the last; None if there is none to be had, or the queue is closed."""
        with self._moved:
            while not self._closed:
                if self._crops_waiting >= size or (self._draining and self._crops_waiting):
                    taken = []
                    room = size
                    while room and self._waiting:
                        first = self._waiting.popleft()
                        part, rest = first.split(room)
                        taken.append(part)
                        room -= part.count
                        if rest.count:
                            self._waiting.appendleft(rest)
                    self._crops_waiting -= size - room
                    self._moved.notify_all()
                    return taken
                if not wait:
                    return None
                self._moved.wait()
        return None

    def _hand_over(self, slices: list[_Slice[Piece]], outputs: Outputs) -> None:
        with self._moved:
            self._moved.wait_for(lambda: self._closed or len(self._computed) < COMPUTED_AHEAD)
            self._computed.append((slices, outputs))
            self._moved.notify_all()

    def _conclusions(self) -> None:
        try:
            while True:
                with self._moved:
                    self._moved.wait_for(lambda: self._closed or bool(self._computed))
                    if self._closed:
                        return
                    computed = self._computed.popleft()
                    self._moved.notify_all()
                if isinstance(computed, BaseException):
                    raise computed  # noqa: TRY301 (in its turn, as an error of this thread)
                self._conclude_those_done(*computed)
        except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
            with self._moved:
                self._error = error
                self._moved.notify_all()

    def _conclude_those_done(self, slices: list[_Slice[Piece]], outputs: Outputs) -> None:
        row = 0
        for part in slices:
            work, here = part.work, slice(row, row + part.count)
            work.said.append({name: rows[here] for name, rows in outputs.items()})
            row += part.count
            if part.end == len(work.crops):
                result = self._conclude(work.piece, work.outputs())
                with self._moved:
                    self._finished.append(result)
                    self._moved.notify_all()


@dataclass(slots=True)
class _Work(Generic[Piece]):
    """A piece on its way: its crops, and what was said of those that are done."""

    piece: Piece
    crops: NDArray[np.uint8]
    clinical: NDArray[np.float32]
    said: list[Outputs] = field(default_factory=list)

    def outputs(self) -> Outputs:
        return {name: np.concatenate([part[name] for part in self.said]) for name in self.said[0]}


@dataclass(frozen=True, slots=True)
class _Slice(Generic[Piece]):
    """Crops ``begin`` to ``end`` of a piece: a batch may end in its middle."""

    work: _Work[Piece]
    begin: int
    end: int

    @property
    def count(self) -> int:
        return self.end - self.begin

    def split(self, most: int) -> tuple[_Slice[Piece], _Slice[Piece]]:
        """The first ``most`` crops at most, and the rest."""
        middle = min(self.end, self.begin + most)
        return _Slice(self.work, self.begin, middle), _Slice(self.work, middle, self.end)


@dataclass(frozen=True, slots=True)
class _Begun(Generic[Piece]):
    """A batch that the device has. at: when it was given, by ``time.perf_counter``."""

    slices: list[_Slice[Piece]]
    at: float
    step: Step


def _stacked(slices: list[_Slice[Piece]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    crops = np.concatenate([s.work.crops[s.begin : s.end] for s in slices])
    return crops, np.concatenate([s.work.clinical[s.begin : s.end] for s in slices])
