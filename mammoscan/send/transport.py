"""What every transport answers: what became of each object, and whether the peer could be used at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mammoscan.errors import MammoscanError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Item:
    """One object to be sent. relative: path below the results folder."""

    path: Path
    relative: str
    sha256: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str


class Outcome(Enum):
    """What became of an object."""

    STORED = "stored"
    REFUSED = "refused"  # by the peer's decision: trying again at once is no use
    FAILED = "failed"  # for the time being


@dataclass(frozen=True, slots=True)
class Answer:
    """The peer's answer about one object. detail: status or reason, no header values."""

    item: Item
    outcome: Outcome
    detail: str = ""


class PeerError(MammoscanError):
    """The peer cannot be used for the time being: not reached, refused, aborted, timed out."""

    code = "peer"


class ConfigurationError(PeerError):
    """The peer will not take anything from us as it is: wrong credentials, certificate or address."""

    code = "peer-configuration"


class Transport(Protocol):
    """A peer. Used as a context manager; one association or connection serves all objects of a try."""

    def __enter__(self) -> Transport: ...

    def __exit__(self, *exc: object) -> None: ...

    def send(self, items: Sequence[Item]) -> Iterator[Answer]:
        """Send objects, and answer about each as it is known.

        Raises
        ------
        PeerError
            When the peer is lost on the way; objects not yet answered about are in doubt.
        """

    def has(self, item: Item) -> bool | None:
        """Whether the peer holds an instance of this UID; None where it can't be asked."""

    def commit(self, items: Sequence[Item]) -> dict[str, bool]:
        """Ask for storage commitment: by SOPInstanceUID whether the peer commits; nothing where it doesn't say."""
