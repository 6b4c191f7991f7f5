"""The same tasks on other machines: a pool whose workers are those of a Dask scheduler.

This process keeps the state and hands out work; what workers need travels with each task, as bytes (``remote``).
Dask is imported when a cluster is asked for and nowhere before.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import queue
import time
import uuid
from collections import deque
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from mammoscan import __version__
from mammoscan.core.errors import MachineError, UsageError
from mammoscan.run import remote
from mammoscan.run.pool import Crashed, Key, Task, outcome
from mammoscan.run.remote import Needs, Order, packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mammoscan.core.console import Console
    from mammoscan.run.config import RunConfig
    from mammoscan.run.pool import Done
    from mammoscan.run.remote import Pairs
    from mammoscan.run.tasks import ModelRef

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0  # between two looks at how many workers there are
BATCH = 32  # tasks handed to the scheduler at once
# A task is lost with its worker, and then tried in a process of its own. That its worker dies again is no fault of the
# task's alone (its process would have died), unless it happens every time: a container is killed as a whole.
LOSSES = 3
_URGENT, _ALONE = 10, 20  # priorities
_QUICK = 2.0  # seconds for the good-bye
_AGAIN = "then run the same command again: it continues where it stopped"


class Cluster:
    """A connection to a scheduler, for the pools of one run.

    Raises
    ------
    UsageError
        When Dask is not installed, the address is none, or a worker that is there cannot work for this run.
    MachineError
        When the scheduler does not answer.
    """

    def __init__(self, config: RunConfig, model: ModelRef, console: Console) -> None:
        assert config.cluster is not None
        self._distributed = _distributed()
        self.killed: type[Exception] = self._distributed.KilledWorker
        self._console = console
        self.address = config.cluster.address
        self.pairs: Pairs = config.cluster.paths
        self.back: Pairs = tuple((there, here) for here, there in self.pairs)
        self.needs = Needs(__version__, model, config.archive, config.out)
        self.run = f"mammoscan-{uuid.uuid4().hex}"
        self.numbers = itertools.count()
        self.client = self._connected(config)
        self._threads, self._looked = 0, -LOOK_SECONDS
        self._idle_told = False
        try:
            self._check()
            self._let_every_death_count()
        except BaseException:
            self.close()
            raise

    def pool(self, ahead: int) -> ClusterPool[Any]:
        """A pool with ``ahead`` tasks submitted for each worker."""
        return ClusterPool(self, ahead)

    def threads(self) -> int:
        """Tasks that the workers can run at once, as of a moment ago."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            with self.answering():
                self._threads = sum(self.client.nthreads().values())
            self._looked = now
            if not self._threads and not self._idle_told:
                self._idle_told = True
                said = f"no worker has joined the scheduler {self.address}: waiting for one"
                log.warning("%s", said)
                self._console.note(said)
            elif self._threads:
                self._idle_told = False
        return self._threads

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Turn what Dask raises when the scheduler is gone into what a person can act on."""
        try:
            yield
        except (OSError, TimeoutError, asyncio.TimeoutError, RuntimeError, futures.CancelledError) as error:
            raise self.gone() from error

    def gone(self) -> MachineError:
        """The scheduler does not answer any more."""
        return MachineError(
            "the cluster's scheduler does not answer any more", path=self.address,
            remedy=f"start it and its workers, {_AGAIN}",
        )  # fmt: skip

    def close(self) -> None:
        """Say good-bye; what workers were doing for this run is lost."""
        with contextlib.suppress(Exception):
            if self.client.status == "running":
                self.client.unregister_scheduler_plugin(self.run)
        with contextlib.suppress(Exception):
            self.client.close(timeout=_QUICK)

    # ------------------------------------------------------------------ the beginning

    def _connected(self, config: RunConfig) -> Any:
        assert config.cluster is not None
        security = None
        if config.cluster.ca is not None:
            own = {"tls_client_cert": config.cluster.certificate, "tls_client_key": config.cluster.key}
            security = self._distributed.Security(
                require_encryption=True, tls_ca_file=str(config.cluster.ca),
                **{name: str(path) for name, path in own.items() if path is not None},
            )  # fmt: skip
        # An earlier client that could not connect is closed as it is collected. Collected in the thread with which the
        # next one begins, it waits for a lock that is held until that thread has begun.
        gc.collect()
        try:
            return self._distributed.Client(self.address, security=security, set_as_default=False, name="mammoscan")
        except OSError as error:
            raise MachineError(
                "the cluster's scheduler does not answer", path=self.address,
                remedy="start it (dask scheduler), or check the address, the network and --cluster-ca",
            ) from error  # fmt: skip
        except (ValueError, TypeError, RuntimeError) as error:
            raise UsageError(
                f"no address of a scheduler: {error}", path=self.address, remedy="give one as tcp://HOST:8786"
            ) from error

    def _check(self) -> None:
        """Ask the workers that are there already; others are asked with their first task."""
        with self.answering():
            told = self.client.run(_version(), on_error="return")
        for worker, version in sorted(told.items()):
            if isinstance(version, OSError):
                continue  # it went a moment ago
            if version != __version__:
                has = f"has mammoscan {version}" if isinstance(version, str) else "has no mammoscan that can be used"
                raise UsageError(
                    f"the worker {worker} {has}, this machine has {__version__}",
                    remedy="install the same version on every machine",
                )
        order = packed(Order(0, abs, (0,), self.needs, self.back), self.pairs)
        with self.answering():
            answers = self.client.run(remote.ready, order, on_error="return")
        others = set()
        for worker, answer in sorted(answers.items()):
            if isinstance(answer, OSError):
                continue
            if not isinstance(answer, bytes):
                _log_frames(answer)
                raise remote.unreadable(worker, answer)
            problem, versions = unpacked(answer)
            if problem is not None:
                raise problem
            others |= {(n, v, versions.get(n)) for n, v in remote.versions().items() if versions.get(n) != v}
        for name, here, there in sorted(others):
            said = f"workers have {name} {there}, this machine {here}: scores may differ in their last digits"
            log.warning("%s", said)
            self._console.note(said)

    def _let_every_death_count(self) -> None:
        """Have the scheduler give a task of this run back with the first worker that dies with it.

        By itself it tries such a task on three workers more.
        """
        from distributed.diagnostics.plugin import SchedulerPlugin

        run = self.run

        # Made here, so that it travels by its value: a scheduler needs no mammoscan.
        class EveryDeathCounts(SchedulerPlugin):  # type: ignore[misc]
            name = run

            def update_graph(self, scheduler: Any, *, tasks: Iterable[Any], **_: Any) -> None:
                for key in tasks:
                    if isinstance(key, tuple) and key[0] == run:
                        scheduler.tasks[key].suspicious = scheduler.allowed_failures

        try:
            self.client.register_plugin(EveryDeathCounts())
        except ValueError:
            log.warning("the scheduler takes no plugins: a file that kills workers may kill several")


@dataclass(slots=True)
class _Sent(Generic[Key]):
    """A task in flight. number: of its last order. losses: workers that died with it."""

    task: Task[Key]
    urgent: bool
    number: int = -1
    losses: int = 0


class ClusterPool(Generic[Key]):
    """Runs tasks on a cluster's workers, at most ``ahead`` for each submitted and not yet consumed.

    Workers may come and go. A task whose worker died is tried again in a process of its own, on whichever worker, so
    that it is known whose fault it was; one that kills that as well is ``Crashed``.
    """

    def __init__(self, cluster: Cluster, ahead: int) -> None:
        self._cluster = cluster
        self._ahead = ahead
        self._urgent: deque[_Sent[Key]] = deque()
        self._sent: dict[int, tuple[Any, _Sent[Key]]] = {}  # the future and its task, by number
        self._done: queue.SimpleQueue[int] = queue.SimpleQueue()

    def add(self, task: Task[Key]) -> None:
        """Queue a task ahead of the feed."""
        self._urgent.append(_Sent(task, urgent=True))

    def results(self, feed: Iterator[Task[Key]], *, patience: float | None = None) -> Iterator[tuple[Key, Any] | None]:
        """Yield (key, result) as they come; see ``WorkPool.results``.

        Raises
        ------
        MachineError
            When the scheduler is gone.
        UsageError
            When a worker joined that has another version or model, or does not see the folders.
        """
        try:
            yield from self._results(feed, patience)
        finally:
            self._cancel()

    def _results(self, feed: Iterator[Task[Key]], patience: float | None) -> Iterator[tuple[Key, Any] | None]:
        dry = False
        quiet = time.monotonic()
        while True:
            more = self._fill(feed)
            if not self._sent:
                if dry:
                    return
                dry = True
                yield None
                continue
            dry = False
            wait = 0.0 if more else LOOK_SECONDS
            if patience is not None:
                wait = min(wait, max(0.0, quiet + patience - time.monotonic()))
            if done := self._finished(wait):
                yield from self._taken(done)
            elif patience is not None and time.monotonic() - quiet >= patience:
                yield None
            else:
                continue
            quiet = time.monotonic()

    def _fill(self, feed: Iterator[Task[Key]]) -> bool:
        """Submit what there is room for, some tasks at once; whether there may be more."""
        room = self._ahead * max(1, self._cluster.threads()) - len(self._sent)
        batch: list[_Sent[Key]] = []
        while len(batch) < min(room, BATCH):
            if self._urgent:
                batch.append(self._urgent.popleft())
            elif (task := next(feed, None)) is not None:
                batch.append(_Sent(task, urgent=False))
            else:
                break
        self._submit(batch)
        return len(batch) == BATCH

    def _submit(self, batch: list[_Sent[Key]]) -> None:
        cluster = self._cluster
        for sent in batch:
            sent.number = next(cluster.numbers)
            alone = sent.losses > 0
            order = Order(sent.number, sent.task.function, sent.task.arguments, cluster.needs, cluster.back, alone)
            with cluster.answering():
                future = cluster.client.submit(
                    remote.work, sent.number, packed(order, cluster.pairs), key=(cluster.run, sent.number), pure=False,
                    priority=_ALONE if alone else _URGENT if sent.urgent else 0,
                )  # fmt: skip
            self._sent[sent.number] = future, sent
            self._watch(sent.number, future)

    def _watch(self, number: int, future: Any) -> None:
        future.add_done_callback(lambda _: self._done.put(number))

    def _finished(self, wait: float) -> list[int]:
        """Numbers of tasks of which something became, after some seconds at most."""
        found = []
        with contextlib.suppress(queue.Empty):
            found.append(self._done.get(timeout=wait) if wait > 0 else self._done.get_nowait())
            while len(found) < BATCH:
                found.append(self._done.get_nowait())
        return [number for number in dict.fromkeys(found) if number in self._sent]

    def _taken(self, done: list[int]) -> Iterator[tuple[Key, Any]]:
        good = []
        for number in done:
            future, sent = self._sent[number]
            if future.status == "finished":
                good.append(future)
            elif future.status == "error":
                yield from self._lost(number, sent, future)
            elif future.status == "cancelled":
                raise self._cluster.gone()
            else:  # its result was lost with a worker and is made again
                self._watch(number, future)
        with self._cluster.answering():
            answers = self._cluster.client.gather(good, errors="skip") if good else []
        for answer in answers:
            number, done_there = unpacked(answer)
            yield from self._came(number, done_there)
        for future in good:
            number = future.key[1]
            if number in self._sent:
                self._watch(number, future)

    def _came(self, number: int, done: Done) -> Iterator[tuple[Key, Any]]:
        if number in self._sent:
            _, sent = self._sent.pop(number)
            yield sent.task.key, outcome(done)

    def _lost(self, number: int, sent: _Sent[Key], future: Any) -> Iterator[tuple[Key, Any]]:
        """A task's worker died, or could not even begin."""
        error = future.exception()
        if not isinstance(error, self._cluster.killed):
            _log_frames(error)
            raise remote.unreadable(f"of {self._cluster.address} that joined", error)
        del self._sent[number]
        sent.losses += 1
        log.warning("a worker died; what it was doing is tried again in a process of its own")
        if sent.losses < LOSSES:
            self._urgent.appendleft(sent)
        else:
            yield sent.task.key, Crashed()

    def _cancel(self) -> None:
        if self._sent:
            with contextlib.suppress(Exception):
                self._cluster.client.cancel([future for future, _ in self._sent.values()])
            self._sent.clear()


def _distributed() -> Any:
    """Dask's distributed, silent on the terminal."""
    try:
        import distributed
    except ImportError as error:
        raise UsageError(
            "--cluster needs Dask, which is not installed", remedy="pip install 'mammoscan[cluster]' on every machine"
        ) from error
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in {"distributed", "bokeh", "tornado"}:
            logger = logging.getLogger(name)
            if logger.handlers:
                logger.handlers, logger.propagate = [_Library()], False
    return distributed


class _Library(logging.Handler):
    """Notes in the log that a library said something. Not what: it may show what travels."""

    def emit(self, record: logging.LogRecord) -> None:
        log.log(record.levelno, "%s: %s:%d", record.name, record.filename, record.lineno)


def _version() -> Any:
    """A function that says a worker's version; it travels by its value, since a worker may have another or none."""

    def version() -> str:
        import mammoscan

        return mammoscan.__version__

    return version


def _log_frames(error: object) -> None:
    log.error("a worker answers", exc_info=error if isinstance(error, BaseException) else None)
