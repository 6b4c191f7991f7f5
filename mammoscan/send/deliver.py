"""The story of sending: fill the queue, settle what is in doubt, send, back off, try again."""

from __future__ import annotations

import contextlib
import functools
import logging
import sqlite3
import threading
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from mammoscan.core.errors import UsageError
from mammoscan.core.kinds import KINDS
from mammoscan.send import objects
from mammoscan.send.destination import LONGEST_PAUSE, LONGEST_WAIT, SendConfig
from mammoscan.send.queue import Queue, State, start
from mammoscan.send.transport import Answer, ConfigurationError, Item, Outcome, Parcel, PeerError, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mammoscan.core.console import Console, Ticker
    from mammoscan.send.destination import Destination
    from mammoscan.send.objects import Results

log = logging.getLogger(__name__)

_T = TypeVar("_T")

# Where two kinds have one class, the first names both.
_NAMES = {kind.sop_class_uid: kind.name for kind in reversed(KINDS)}


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of the queues, objects times destinations."""

    sent: int  # now
    already: int  # before
    unsent: int  # still queued, or refused now and never before
    refused: int  # before: of these nothing is said again


def deliver(
    results: Results,
    out: Path,
    config: SendConfig,
    console: Console,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Delivery:
    """Send every DICOM result of a folder to every destination that does not have it. The caller holds its lock.

    What a peer does, and a result that is missing or changed, costs that peer or that object: a line and its place
    in ``unsent``, never an exception.
    """
    parts = []
    start(results.connection)
    with _unprinted():
        for destination in config.destinations:
            queue = Queue(results.connection, destination.text, out)
            turn = _Turn(queue, _Shelf(out, queue, console), destination, config)
            parts.append(_to_one(turn, results, console, sleep))
    return Delivery(*(sum(counts) for counts in zip(*parts, strict=True)))


@dataclass(frozen=True, slots=True)
class _Shelf:
    """The objects of the folder; of those that cannot be used the user is told once."""

    out: Path
    queue: Queue
    console: Console

    def item(self, relative: str, sha256: str) -> Item | None:
        """An object's UIDs, from the object; None where it cannot be used."""
        return self._unless_lost(relative, functools.partial(objects.item, self.out / relative, relative, sha256))

    def parcel(self, item: Item) -> Parcel | None:
        """An object with its bytes; None where they cannot be used."""
        content = self._unless_lost(item.relative, functools.partial(objects.read, item.path, item.sha256))
        return None if content is None else Parcel(item, content)

    def _unless_lost(self, relative: str, get: Callable[[], _T]) -> _T | None:
        try:
            return get()
        except objects.ObjectError as error:
            self.queue.lose(relative)
            log.warning("%s: %s", relative, error.message)
            self.console.error(str(error))
            return None


def _to_one(
    turn: _Turn, results: Results, console: Console, sleep: Callable[[float], None]
) -> tuple[int, int, int, int]:
    """One destination's part of ``Delivery``."""
    queue, to = turn.queue, turn.destination.text
    filled = queue.fill(results.dicom_objects(), turn.shelf.item)
    turn.begin()
    already = filled.held - queue.unsent().total()
    with console.stage(f"sending to {to}", queue.left()) as ticker:
        problem = turn.try_all(ticker, sleep)
    if queue.requeue_refused(filled.held):
        problem = problem or f"{turn.words()} (check what the peer takes from us, and both titles or the address)"
        turn.news.clear()
    told = sum(turn.news.values())
    of_all = f"of {filled.results} objects"
    if told:
        console.error(
            f"{to}: {told} {of_all} are refused and will not be sent again: {turn.words()} "
            "(leave the kind out with --write, or change the peer and add --retry-refused)"
        )
    unsent = queue.unsent()
    sent = filled.held - unsent.total()
    left = filled.results - sent - unsent[State.REFUSED]
    if left:
        console.error(
            f"{to}: {left} {of_all} are not sent"
            f"{': ' + problem if problem else ''}; they stay queued: run the same command again"
        )
    before = unsent[State.REFUSED] - told
    if before:
        console.note(f"{to}: {before} {of_all} were refused before (see --retry-refused)")
    return sent - already, already, left + told, before


@dataclass
class _Turn:
    """What is done for one destination. news: objects refused now and never before, by kind and detail."""

    queue: Queue
    shelf: _Shelf
    destination: Destination
    config: SendConfig
    news: Counter[tuple[str, str]] = field(default_factory=Counter)
    _refused_classes: set[tuple[str, str]] = field(default_factory=set)

    def begin(self) -> None:
        """Queue again what was refused long enough ago, or all of it where the user wants that."""
        if not self.config.retry_refused:
            self._refused_classes = self.queue.refused_classes()
        self.queue.begin(retry_refused=self.config.retry_refused)

    def words(self) -> str:
        """The news in words."""
        return ", ".join(f"{count} {kind}: {detail}" for (kind, detail), count in sorted(self.news.items()))

    def try_all(self, ticker: Ticker, sleep: Callable[[float], None]) -> str:
        """Try until everything is sent or refused or the attempts are used up; say what went wrong last."""
        problem, wait = "", self.config.backoff
        for attempt in range(self.config.attempts):
            if not self.queue.left() and (attempt or not self.config.commit_port or not any(self.queue.uncommitted())):
                break
            if attempt:
                sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            try:
                with _transport(self.destination, self.config, self.queue, attempt) as peer:
                    problem = self._once(peer, ticker) or problem
                    self._commit(peer)
            except (ConfigurationError, UsageError) as error:
                return self._noted(error)
            except PeerError as error:
                problem = self._noted(error)
                if error.retry_after > LONGEST_PAUSE:
                    return f"{problem}, and asks us to wait for {error.retry_after:.0f} seconds"
                wait = max(wait, error.retry_after)
            except sqlite3.Error:  # of our own state file: no peer's matter
                raise
            except Exception as error:  # noqa: BLE001 (a library's fault with one peer must not cost the others)
                where = "".join(traceback.format_tb(error.__traceback__))
                # Not log.exception: the message of the error may quote values of the object.
                log.error("%s: unexpected %s\n%s", self.destination.text, type(error).__name__, where)  # noqa: TRY400
                return f"an unexpected {type(error).__name__} (please report it with the log file)"
        return problem

    def _noted(self, error: PeerError | UsageError) -> str:
        log.warning("%s: %s", self.destination.text, error.message)
        return f"{error.message} ({error.remedy})" if error.remedy else error.message

    def _once(self, peer: Transport, ticker: Ticker) -> str:
        """One try; the last answer that was a failure for the time being, '' where there was none."""
        for item in self.queue.waiting(State.SENDING):
            if not self.queue.was_sent_before(item) and peer.has(item):
                self._is_sent(item, "the peer had it when asked", ticker)
        problem = ""
        # What is still in doubt comes at the end: an object that no peer survives must not keep the others.
        for state in (State.QUEUED, State.SENDING):
            for answer in peer.send(self._parcels(self.queue.waiting(state))):
                if answer.outcome is Outcome.STORED:
                    self._is_sent(answer.item, answer.detail, ticker)
                elif answer.outcome is Outcome.REFUSED:
                    self._is_refused(answer)
                    ticker.advance(failed=1)
                else:
                    self.queue.mark([answer.item], State.QUEUED, answer.detail)
                    problem = f"failed: {answer.detail}"
        return problem

    def _parcels(self, items: Iterable[Item]) -> Iterator[Parcel]:
        """Objects, each noted as being sent at the moment it is taken, not before."""
        for item in items:
            parcel = self.shelf.parcel(item)
            if parcel is not None:
                self.queue.mark([item], State.SENDING)
                yield parcel

    def _is_sent(self, item: Item, detail: str, ticker: Ticker) -> None:
        self.queue.mark([item], State.SENT, detail)
        ticker.advance()

    def _is_refused(self, answer: Answer) -> None:
        item = answer.item
        told = self.queue.was_refused_before(item)
        told |= answer.whole_class and (item.sop_class_uid, answer.detail) in self._refused_classes
        log.warning("%s: %s: refused: %s", self.destination.text, item.relative, answer.detail)
        self.queue.mark([item], State.REFUSED, answer.detail)
        if not told:
            self.news[_NAMES.get(item.sop_class_uid, item.sop_class_uid), answer.detail] += 1

    def _commit(self, peer: Transport) -> None:
        count = 0
        for asked in self.queue.uncommitted():
            answers = peer.commit(asked)
            if not answers:  # nor will it speak of the others
                break
            self.queue.committed(i for i in asked if answers.get(i.sop_instance_uid) is True)
            lost = [i for i in asked if answers.get(i.sop_instance_uid) is False]
            # The peer took them and does not vouch for them: they are not safe there.
            self.queue.mark(lost, State.QUEUED, "the peer did not commit to keep it")
            count += len(lost)
        if count:
            raise PeerError(f"no storage commitment for {count} objects")


@contextlib.contextmanager
def _unprinted() -> Iterator[None]:
    """Keep what libraries print, and what their threads die of, off the terminal: the answers tell what matters."""
    before = threading.excepthook

    def note(died: threading.ExceptHookArgs) -> None:
        log.warning("a thread of the network library ended: %s", died.exc_type.__name__)

    threading.excepthook = note
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        threading.excepthook = before


def _transport(destination: Destination, config: SendConfig, queue: Queue, attempt: int) -> Transport:
    if destination.url:
        from mammoscan.send.stow import Stow

        return Stow(destination, config, attempt)
    from mammoscan.send.dimse import Dimse

    return Dimse(destination, config, queue.classes())
