"""Work in other processes: bounded in flight, results as they come, survives crashing codecs.

The executor here is joblib's (loky), of this machine; ``cluster`` has the pool of other machines. Functions and
arguments are picklable and no state is global.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from joblib.executor import get_memmapping_executor
from joblib.externals.loky.backend.process import LokyProcess

from mammoscan.core import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

Key = TypeVar("Key")
_SEMAPHORES = 32  # loky takes some 10 for its queues and locks
# Workers are as many as cores: threads of their own would only wait for each other, by turning in circles. The sums of
# a matrix product then do not hang on the machine's cores either.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1")
# What an image's arrays leave behind is kept for the next one's: the GNU C library gives every freed megabyte back, and
# asks for it again page by page, some 4,000 times an image. Other libraries do not know the names.
ENVIRONMENT = ONE_THREAD | {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}


@dataclass(frozen=True, slots=True)
class Task(Generic[Key]):
    """A call to be made in a worker: ``function(*arguments)``; ``key`` tells whose result it is."""

    key: Key
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Crashed:
    """The outcome of a task that killed its process, also when it ran alone."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a call in a worker: its value or what it raised, and what was logged on the way."""

    value: Any
    error: Exception | None
    said: list[logs.Said]


class Pool(Protocol[Key]):
    """Where tasks are run: in processes of this machine (``WorkPool``) or of others (``cluster.ClusterPool``)."""

    def add(self, task: Task[Key]) -> None:
        """Queue a task ahead of the feed."""

    def results(self, feed: Iterator[Task[Key]], *, patience: float | None = None) -> Iterator[tuple[Key, Any] | None]:
        """Results as they come; see ``WorkPool.results``."""


class WorkPool(Generic[Key]):
    """Run tasks in ``workers`` processes, at most ``in_flight`` submitted and not yet consumed.

    With 0 workers they run here, one by one, for machines that give no semaphores (``can_start_workers``):
    then a task that kills its process ends the run.

    ``add`` queues urgent work that is submitted before the feed is asked for more, so that
    finished studies are reported (and their arrays freed) before new ones are begun.
    """

    def __init__(self, workers: int, *, in_flight: int) -> None:
        self.workers = workers
        self._in_flight = in_flight
        self._urgent: deque[Task[Key]] = deque()
        self._futures: dict[Future[Any], Task[Key]] = {}
        self._executor: Any = None

    def add(self, task: Task[Key]) -> None:
        """Queue a task ahead of the feed."""
        self._urgent.append(task)

    def results(self, feed: Iterator[Task[Key]], *, patience: float | None = None) -> Iterator[tuple[Key, Any] | None]:
        """Yield (key, result) as they come, or ``None`` when nothing came within ``patience`` seconds
        and when the pool runs dry, so that the caller can do work of its own (flush a batch) and
        add tasks. Ends when feed and queue are empty after such a ``None``.
        """
        if not self.workers:
            yield from self._serially(feed)
            return
        try:
            dry = False
            while True:
                self._fill(feed)
                if not self._futures:
                    if dry:
                        return
                    dry = True
                    yield None
                    continue
                dry = False
                done, _ = wait(self._futures, timeout=patience, return_when=FIRST_COMPLETED)
                if not done:
                    yield None
                    continue
                for future in done:
                    if future not in self._futures:
                        break  # a crash was handled and took the rest with it
                    task = self._futures[future]
                    try:
                        done_there = future.result()
                    except BrokenProcessPool:
                        yield from self._recover()
                        break
                    del self._futures[future]
                    yield task.key, outcome(done_there)
        except BaseException:
            self.kill()
            raise

    def _serially(self, feed: Iterator[Task[Key]]) -> Iterator[tuple[Key, Any] | None]:
        dry = False
        while True:
            task = self._urgent.popleft() if self._urgent else next(feed, None)
            if task is not None:
                dry = False
                yield task.key, task.function(*task.arguments)
            elif dry:
                return
            else:
                dry = True
                yield None

    def kill(self) -> None:
        """End all workers at once; what they were doing is lost."""
        # loky's thread raises (KeyError) when it is told to kill workers while tasks wait that none has taken. Workers
        # that died are a case which it handles: then every future has its end.
        for process in multiprocessing.active_children():
            if isinstance(process, LokyProcess) and process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        wait(self._futures)
        self._futures.clear()
        _executor(self.workers).shutdown(wait=True, kill_workers=True)

    def _fill(self, feed: Iterator[Task[Key]]) -> None:
        while len(self._futures) < self._in_flight:
            task = self._urgent.popleft() if self._urgent else next(feed, None)
            if task is None:
                return
            self._submit(task)

    def _submit(self, task: Task[Key]) -> None:
        try:
            if self._executor is None:
                self._executor = _executor(self.workers)  # to ask for it costs as much as two headers
            future = self._executor.submit(_in_worker, task.function, task.arguments)
        except BrokenProcessPool:
            # The pool broke since the last look; its futures say so too and are recovered there.
            future = Future()
            future.set_exception(BrokenProcessPool())
        self._futures[future] = task

    def _recover(self) -> Iterator[tuple[Key, Any]]:
        """A worker died. Take the finished results; run the others one by one to find the culprit."""
        tasks = self._futures
        self._futures = {}
        self._executor = None
        suspects = []
        for future, task in tasks.items():
            if future.done() and future.exception() is None:
                yield task.key, outcome(future.result())
            else:
                suspects.append(task)
        log.warning("a worker process died; trying %d pieces of work one by one", len(suspects))
        for task in suspects:
            _executor(self.workers).shutdown(wait=True, kill_workers=True)
            try:
                done = _executor(self.workers).submit(_in_worker, task.function, task.arguments).result()
            except BrokenProcessPool:
                yield task.key, Crashed()
            else:
                yield task.key, outcome(done)
        _executor(self.workers).shutdown(wait=True, kill_workers=True)


def worker_count(asked: int) -> int:
    """Number of worker processes: as asked, or one for each core this process may use."""
    return asked if asked > 0 else len(os.sched_getaffinity(0))


def can_start_workers() -> bool:
    """Whether this machine gives the semaphores that worker processes are led by (/dev/shm may be read-only or full)."""
    held = []
    try:
        # More than the executor needs; those of the plain context vanish with the objects.
        held = [multiprocessing.get_context("fork").Lock() for _ in range(_SEMAPHORES)]
    except (OSError, ImportError):
        return False
    return len(held) == _SEMAPHORES


def outcome(done: Done) -> Any:
    """A worker's result, after its lines in the log; what it raised is raised here."""
    logs.replay(done.said)
    if done.error is not None:
        raise done.error
    return done.value


def _executor(workers: int) -> Any:
    # joblib keeps one executor a process. Made by its own factory, so that a later ``joblib.Parallel``
    # (the header pass of a second run) can take it over. Arrays are passed on as they are.
    return get_memmapping_executor(workers, timeout=300, max_nbytes=None, env=ENVIRONMENT, initializer=_begin)


def _begin() -> None:
    """In each worker as it starts, all at once: what tasks need is loaded before there is one for each of them."""
    from mammoscan.run import publish, tasks  # noqa: F401


def performed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Done:
    """Make a call in a worker."""
    with logs.collected() as said:
        try:
            return Done(function(*arguments), None, said)
        except Exception as error:
            log.warning("raised in a worker", exc_info=error)  # its frames do not travel with it
            return Done(None, error, said)


def _in_worker(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Done:
    # Ctrl-C reaches the whole process group; only the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return performed(function, arguments)
