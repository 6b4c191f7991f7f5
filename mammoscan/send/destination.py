"""Where to send: ``AE@host:port`` for C-STORE, ``http(s)://.../studies`` for STOW-RS."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mammoscan.errors import UsageError

_DIMSE = re.compile(r"(?P<title>[^@\\]{1,16})@(\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^@:/\s]+)):(?P<port>\d{1,5})")


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


LONGEST_WAIT = 60.0


def parse(text: str) -> Destination:
    """A destination from what the user wrote.

    Raises
    ------
    UsageError
        When it is neither form.
    """
    parts = urlsplit(text)
    if parts.scheme in {"http", "https"} and parts.hostname and not parts.username:
        path = parts.path.rstrip("/")
        if path.endswith("/studies") and not parts.query and not parts.fragment:
            return Destination(text, url=f"{parts.scheme}://{parts.netloc}{path}")
    elif (match := _DIMSE.fullmatch(text)) and 0 < int(match["port"]) < 65536 and match["title"].strip():
        return Destination(text, match["title"].strip(), match["six"] or match["host"], int(match["port"]))
    raise UsageError(
        f"not a destination: {_without_password(text)}",
        remedy="give AE@host:port for C-STORE or https://host/path/studies for STOW-RS; "
        "user names and passwords go into ~/.netrc",
    )


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", text)
