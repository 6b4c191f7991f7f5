"""The story of sending: fill the queue, settle what is in doubt, send, back off, try again."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan.errors import UsageError
from mammoscan.send.destination import LONGEST_WAIT, SendConfig
from mammoscan.send.queue import Queue, State
from mammoscan.send.transport import ConfigurationError, Item, Outcome, PeerError, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mammoscan.console import Console, Ticker
    from mammoscan.ledger import Ledger
    from mammoscan.send.destination import Destination

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of the queues, objects times destinations."""

    sent: int  # now
    already: int  # before
    unsent: int


def deliver(
    ledger: Ledger,
    out: Path,
    config: SendConfig,
    console: Console,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Delivery:
    """Send every DICOM result of a folder to every destination that does not have it. The caller holds its lock.

    Raises
    ------
    UsageError
        When a result that should be sent is missing or is not what was written, or a TLS file cannot be used.
    """
    items = list(_items(ledger, out))
    sent = already = unsent = 0
    for destination in config.destinations:
        queue = Queue(ledger.connection, destination.text)
        queue.fill(items)
        waiting = _unsent(queue, items)
        already += len(items) - len(waiting)
        with console.stage(f"sending to {destination.text}", len(waiting)) as ticker:
            problem = _try_all(queue, items, destination, config, ticker, sleep)
        left = _unsent(queue, items)
        sent += len(waiting) - len(left)
        unsent += len(left)
        if left:
            console.error(
                f"{destination.text}: {len(left)} of {len(items)} objects are not sent"
                f"{': ' + problem if problem else ''}; they stay queued: run the same command again"
            )
    return Delivery(sent, already, unsent)


def _items(ledger: Ledger, out: Path) -> Iterator[Item]:
    """The DICOM results that stand in the folder."""
    import hashlib

    import pydicom

    for _, record in ledger.studies():
        for relative, sha256 in sorted(record.outputs.items()):
            if not relative.endswith(".dcm"):
                continue
            path = out / relative
            try:
                content = path.read_bytes()
            except OSError as error:
                raise UsageError(
                    f"a result cannot be read: {error.strerror}", path=path, remedy="run `mammoscan run` again first"
                ) from error
            if hashlib.sha256(content).hexdigest() != sha256:
                raise UsageError(
                    "this is not the file that was written", path=path, remedy="remove it and run `mammoscan run` again"
                )
            ds = pydicom.dcmread(
                path, specific_tags=["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"]
            )
            yield Item(
                path, relative, sha256, str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID),
                str(ds.StudyInstanceUID), str(ds.file_meta.TransferSyntaxUID),
            )  # fmt: skip


def _unsent(queue: Queue, items: Sequence[Item]) -> list[Item]:
    states = queue.states()
    return [i for i in items if states[i.sop_instance_uid, i.sha256] is not State.SENT]


def _try_all(
    queue: Queue,
    items: Sequence[Item],
    destination: Destination,
    config: SendConfig,
    ticker: Ticker,
    sleep: Callable[[float], None],
) -> str:
    """Try until everything is sent or refused or the attempts are used up; say what went wrong last."""
    refused: set[str] = set()
    problem = ""
    wait = config.backoff
    for attempt in range(config.attempts):
        todo = [i for i in _unsent(queue, items) if i.sop_instance_uid not in refused]
        if not todo and (attempt or not config.commit_port or not queue.uncommitted()):
            break
        if attempt:
            sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        try:
            with _transport(destination, config, todo or items) as peer:
                again = _once(queue, peer, todo, refused, ticker)
                if again:
                    problem = again
                _commit(queue, peer, items)
        except ConfigurationError as error:
            log.warning("%s: %s", destination.text, error)
            return str(error)
        except PeerError as error:
            log.warning("%s: %s", destination.text, error)
            problem = str(error)
    return problem


def _once(queue: Queue, peer: Transport, todo: Sequence[Item], refused: set[str], ticker: Ticker) -> str:
    """One try; the last answer that was not a success, '' where there was none."""
    states = queue.states()
    fresh = []
    for item in todo:
        doubtful = states[item.sop_instance_uid, item.sha256] is State.SENDING and not queue.was_sent_before(item)
        if doubtful and peer.has(item):
            queue.mark([item], State.SENT, "the peer had it when asked")
            ticker.advance()
        else:
            fresh.append(item)
    problem = ""
    answers = peer.send(_marked(queue, fresh))
    for answer in answers:
        if answer.outcome is Outcome.STORED:
            queue.mark([answer.item], State.SENT, answer.detail)
            ticker.advance()
            continue
        queue.mark([answer.item], State.QUEUED, answer.detail)
        problem = f"{answer.outcome.value}: {answer.detail}"
        if answer.outcome is Outcome.REFUSED:
            refused.add(answer.item.sop_instance_uid)
            ticker.advance(failed=1)
    return problem


class _Marked(list[Item]):
    """Objects that are noted as being sent at the moment they are taken, not before."""

    def __init__(self, queue: Queue, items: Sequence[Item]) -> None:
        super().__init__(items)
        self._queue = queue

    def __iter__(self) -> Iterator[Item]:
        for item in super().__iter__():
            self._queue.mark([item], State.SENDING)
            yield item


def _marked(queue: Queue, items: Sequence[Item]) -> Sequence[Item]:
    return _Marked(queue, items)


def _commit(queue: Queue, peer: Transport, items: Sequence[Item]) -> None:
    waiting = queue.uncommitted()
    asked = [i for i in items if (i.sop_instance_uid, i.sha256) in waiting]
    if not asked:
        return
    answers = peer.commit(asked)
    queue.committed(i for i in asked if answers.get(i.sop_instance_uid) is True)
    lost = [i for i in asked if answers.get(i.sop_instance_uid) is False]
    if lost:
        # The peer took them and does not vouch for them: they are not safe there.
        queue.mark(lost, State.QUEUED, "the peer did not commit to keep it")
        raise PeerError(f"no storage commitment for {len(lost)} objects")


def _transport(destination: Destination, config: SendConfig, items: Sequence[Item]) -> Transport:
    if destination.url:
        from mammoscan.send.stow import Stow

        return Stow(destination, config)
    from mammoscan.send.dimse import Dimse

    return Dimse(destination, config, items)
