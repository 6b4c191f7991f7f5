"""What every transport answers: what became of each object, and whether the peer could be used at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mammoscan.core.errors import MammoscanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


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


@dataclass(frozen=True, slots=True)
class Parcel:
    """An object with its bytes, which are those that were written."""

    item: Item
    content: bytes


class Outcome(Enum):
    """What became of an object."""

    STORED = "stored"
    REFUSED = "refused"  # for good: the peer would say the same again
    FAILED = "failed"  # for the time being


@dataclass(frozen=True, slots=True)
class Answer:
    """The peer's answer about one object.

    detail: status or reason, no header values. whole_class: a refusal of the SOP class, not of this object.
    """

    item: Item
    outcome: Outcome
    detail: str = ""
    whole_class: bool = False


class PeerError(MammoscanError):
    """The peer cannot be used for the time being: not reached, refused, aborted, timed out.

    retry_after: seconds that it asked us to stay away.
    """

    code = "peer"

    def __init__(
        self, message: str, *, path: Path | str | None = None, remedy: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(message, path=path, remedy=remedy)
        self.retry_after = retry_after


class ConfigurationError(PeerError):
    """The peer will not take anything from us as it is: wrong credentials, certificate or address."""

    code = "peer-configuration"


class Transport(Protocol):
    """A peer. Used as a context manager; one association or connection serves all objects of a try."""

    def __enter__(self) -> Transport: ...

    def __exit__(self, *exc: object) -> None: ...

    def send(self, parcels: Iterable[Parcel]) -> Iterator[Answer]:
        """Send objects, and answer about each as it is known. A parcel counts as under way from when it is taken.

        Raises
        ------
        PeerError
            When the peer is lost on the way; objects not yet answered about are in doubt.
        """

    def has(self, item: Item) -> bool | None:
        """Whether the peer holds an instance of this UID; None where it can't be asked."""

    def commit(self, items: Sequence[Item]) -> dict[str, bool]:
        """Ask for storage commitment: by SOPInstanceUID whether the peer commits; nothing where it doesn't say."""
