"""Where to send: ``AE@host:port`` for C-STORE, ``http(s)://.../studies`` for STOW-RS."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mammoscan.core.errors import UsageError

_DIMSE = re.compile(
    r"(?P<title>[^@]*)@(\[(?P<six>[0-9a-fA-F:.]+(%[\w.-]+)?)\]|(?P<host>[^@:/\s]+)):(?P<port>[0-9]{1,5})"
)
_LONGEST_TITLE = 16


@dataclass(frozen=True, slots=True)
class Destination:
    """One peer. text: as the user wrote it, the name of its queue. url: '' for C-STORE."""

    text: str
    title: str = ""
    host: str = ""
    port: int = 0
    url: str = ""


@dataclass(frozen=True, slots=True)
class SendConfig:
    """How to send; nothing here changes what is sent.

    attempts: tries of the whole queue while a peer fails for the time being, ``backoff`` seconds
    before the second, doubled each time up to ``LONGEST_WAIT``. timeout: seconds without an answer
    that end a try. commit_port: where this program listens for storage commitment, 0 for nowhere.
    retry_refused: whether what a peer refused is offered again.

    Raises
    ------
    UsageError
        When ``calling`` is no application entity title.
    """

    destinations: tuple[Destination, ...] = ()
    calling: str = "MAMMOSCAN"
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
    attempts: int = 5
    backoff: float = 2.0
    timeout: float = 30.0
    commit_port: int = 0
    retry_refused: bool = False

    def __post_init__(self) -> None:
        title(self.calling)


LONGEST_WAIT = 60.0
# A peer that asks for more than this (Retry-After) is left alone until the next call.
LONGEST_PAUSE = 600.0


def title(text: str) -> str:
    """An application entity title without the spaces around it, which mean nothing (VR AE, PS3.5 6.2).

    Raises
    ------
    UsageError
        When it is empty, longer than 16 characters, or holds a backslash, a control or a non-ASCII character.
    """
    bare = text.strip(" ")
    if not bare:
        raise UsageError("an AE title cannot be empty")
    if len(bare) > _LONGEST_TITLE:
        raise UsageError(f"an AE title has at most {_LONGEST_TITLE} characters, this has {len(bare)}")
    if not all(" " <= c <= "~" and c != "\\" for c in bare):
        raise UsageError("an AE title holds ASCII letters, digits and signs only, and no backslash")
    return bare


def parse(text: str) -> Destination:
    """A destination from what the user wrote.

    Raises
    ------
    UsageError
        When it is neither form.
    """
    problem = ""
    try:
        found = _url(text) if text.lower().startswith(("http:", "https:")) else _dimse(text)
    except UsageError as error:
        found, problem = None, f" ({error.message})"
    except ValueError:  # an address or a port that urllib cannot split
        found = None
    if found is not None:
        return found
    raise UsageError(
        f"not a destination: {_shown(text)}{problem}",
        remedy="give AE@host:port for C-STORE or https://host/path/studies for STOW-RS; "
        "user names and passwords go into ~/.netrc",
    )


def _url(text: str) -> Destination | None:
    parts = urlsplit(text)
    path = parts.path.rstrip("/")
    whole = parts.hostname and parts.username is None and parts.password is None and parts.port != 0
    if not whole or not path.endswith("/studies") or parts.query or parts.fragment or not _plain(text):
        return None
    return Destination(text, url=f"{parts.scheme}://{parts.netloc}{path}")


def _dimse(text: str) -> Destination | None:
    match = _DIMSE.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        return None
    return Destination(text, title(match["title"]), match["six"] or match["host"], int(match["port"]))


def _plain(text: str) -> bool:
    return text.isprintable() and not any(c.isspace() for c in text)


def _shown(text: str) -> str:
    """What the user wrote, without a password and fit for a terminal."""
    without = re.sub(r"//.*@", "//...@", text)
    return "".join(c if c.isprintable() else "?" for c in without)
