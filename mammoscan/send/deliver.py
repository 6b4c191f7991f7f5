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
from mammoscan.send.queue import Queue, State
from mammoscan.send.transport import Answer, ConfigurationError, Item, Outcome, Parcel, PeerError, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mammoscan.core.console import Console, Ticker
    from mammoscan.run.ledger import Ledger
    from mammoscan.send.destination import Destination

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_NAMES = {kind.sop_class_uid: kind.name for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of the queues, objects times destinations."""

    sent: int  # now
    already: int  # before
    unsent: int  # still queued, or refused now and never before
    refused: int  # before: of these nothing is said again


def deliver(
    ledger: Ledger,
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
    shelf = _Shelf(ledger, out, console)
    parts = []
    with _unprinted():
        for destination in config.destinations:
            queue = Queue(ledger.connection, destination.text)
            parts.append(_to_one(queue, shelf, destination, config, console, sleep))
    return Delivery(*(sum(counts) for counts in zip(*parts, strict=True)))


class _Shelf:
    """The DICOM results that stand in the state file; of those that cannot be used the user is told once."""

    def __init__(self, ledger: Ledger, out: Path, console: Console) -> None:
        self._out = out
        self._console = console
        self._lost: set[str] = set()
        self.results = [
            (relative, sha256)
            for _, record in ledger.studies()
            for relative, sha256 in sorted(record.outputs.items())
            if relative.endswith(".dcm")
        ]

    def items(self, queue: Queue) -> list[Item]:
        """The results with their UIDs; only those that no queue has seen are read."""
        known, states = queue.known(), queue.states()
        items = []
        for relative, sha256 in self.results:
            if sha256 in known:
                items.append(Item(self._out / relative, relative, sha256, *known[sha256]))
            elif states.get(sha256) is not State.SENT and relative not in self._lost:
                # What an older version sent has no UIDs in its row. It is sent; nothing more is asked about it.
                item = self._unless_lost(
                    relative, functools.partial(objects.item, self._out / relative, relative, sha256)
                )
                items += [item] if item is not None else []
        return items

    def parcel(self, item: Item) -> Parcel | None:
        """An object with its bytes; None where they cannot be used."""
        if item.relative in self._lost:
            return None
        content = self._unless_lost(item.relative, functools.partial(objects.read, item.path, item.sha256))
        return None if content is None else Parcel(item, content)

    def counts(self, queue: Queue) -> Counter[State]:
        """How many of the results stand where with a destination."""
        states = queue.states()
        return Counter(states[sha256] for _, sha256 in self.results if sha256 in states)

    def is_lost(self, item: Item) -> bool:
        return item.relative in self._lost

    def _unless_lost(self, relative: str, get: Callable[[], _T]) -> _T | None:
        try:
            return get()
        except objects.ObjectError as error:
            self._lost.add(relative)
            log.warning("%s: %s", relative, error.message)
            self._console.error(str(error))
            return None


def _to_one(
    queue: Queue,
    shelf: _Shelf,
    destination: Destination,
    config: SendConfig,
    console: Console,
    sleep: Callable[[float], None],
) -> tuple[int, int, int, int]:
    """One destination's part of ``Delivery``."""
    items = shelf.items(queue)
    queue.fill(items)
    turn = _Turn(queue, shelf, destination, config, items)
    already = shelf.counts(queue)[State.SENT]
    with console.stage(f"sending to {destination.text}", len(turn.todo())) as ticker:
        problem = turn.try_all(ticker, sleep)
    if queue.requeue_refused(items):
        problem = problem or f"{turn.words()} (check what the peer takes from us, and both titles or the address)"
        turn.news.clear()
    told = sum(turn.news.values())
    of_all = f"of {len(shelf.results)} objects"
    if told:
        console.error(
            f"{destination.text}: {told} {of_all} are refused and will not be sent again: {turn.words()} "
            "(leave the kind out with --write, or change the peer and add --retry-refused)"
        )
    counts = shelf.counts(queue)
    left = len(shelf.results) - counts[State.SENT] - counts[State.REFUSED]
    if left:
        console.error(
            f"{destination.text}: {left} {of_all} are not sent"
            f"{': ' + problem if problem else ''}; they stay queued: run the same command again"
        )
    before = counts[State.REFUSED] - told
    if before:
        console.note(f"{destination.text}: {before} {of_all} were refused before (see --retry-refused)")
    return counts[State.SENT] - already, already, left + told, before


@dataclass
class _Turn:
    """What is done for one destination. news: objects refused now and never before, by kind and detail."""

    queue: Queue
    shelf: _Shelf
    destination: Destination
    config: SendConfig
    items: Sequence[Item]
    news: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._refused_classes = set() if self.config.retry_refused else self.queue.refused_classes()
        self.queue.begin(retry_refused=self.config.retry_refused)

    def todo(self) -> list[Item]:
        """What waits, with what is in doubt at the end: an object that no peer survives must not keep the others."""
        states = self.queue.states()
        waiting = [
            i for i in self.items if states[i.sha256] in {State.QUEUED, State.SENDING} and not self.shelf.is_lost(i)
        ]
        return sorted(waiting, key=lambda i: states[i.sha256] is State.SENDING)

    def words(self) -> str:
        """The news in words."""
        return ", ".join(f"{count} {kind}: {detail}" for (kind, detail), count in sorted(self.news.items()))

    def try_all(self, ticker: Ticker, sleep: Callable[[float], None]) -> str:
        """Try until everything is sent or refused or the attempts are used up; say what went wrong last."""
        problem, wait = "", self.config.backoff
        for attempt in range(self.config.attempts):
            todo = self.todo()
            if not todo and (attempt or not self.config.commit_port or not self.queue.uncommitted(self.items)):
                break
            if attempt:
                sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            try:
                with _transport(self.destination, self.config, self.items, attempt) as peer:
                    problem = self._once(peer, todo, ticker) or problem
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

    def _once(self, peer: Transport, todo: Sequence[Item], ticker: Ticker) -> str:
        """One try; the last answer that was a failure for the time being, '' where there was none."""
        states = self.queue.states()
        fresh = []
        for item in todo:
            doubtful = states[item.sha256] is State.SENDING and not self.queue.was_sent_before(item)
            if doubtful and peer.has(item):
                self._is_sent(item, "the peer had it when asked", ticker)
            else:
                fresh.append(item)
        problem = ""
        for answer in peer.send(self._parcels(fresh)):
            if answer.outcome is Outcome.STORED:
                self._is_sent(answer.item, answer.detail, ticker)
            elif answer.outcome is Outcome.REFUSED:
                self._is_refused(answer)
                ticker.advance(failed=1)
            else:
                self.queue.mark([answer.item], State.QUEUED, answer.detail)
                problem = f"failed: {answer.detail}"
        return problem

    def _parcels(self, items: Sequence[Item]) -> Iterator[Parcel]:
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
        asked = self.queue.uncommitted(self.items)
        if not asked:
            return
        answers = peer.commit(asked)
        self.queue.committed(i for i in asked if answers.get(i.sop_instance_uid) is True)
        lost = [i for i in asked if answers.get(i.sop_instance_uid) is False]
        if lost:
            # The peer took them and does not vouch for them: they are not safe there.
            self.queue.mark(lost, State.QUEUED, "the peer did not commit to keep it")
            raise PeerError(f"no storage commitment for {len(lost)} objects")


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


def _transport(destination: Destination, config: SendConfig, items: Sequence[Item], attempt: int) -> Transport:
    if destination.url:
        from mammoscan.send.stow import Stow

        return Stow(destination, config, attempt)
    from mammoscan.send.dimse import Dimse

    return Dimse(destination, config, items)
