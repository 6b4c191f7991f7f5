"""The file with the secret key of pseudonyms: read, or made where it is missing."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from mammoscan.core.errors import UsageError

SHORTEST = 32  # characters
_OTHERS = 0o077


def default() -> Path:
    """Where the key lies if the user names no place: in their configuration folder.

    Raises
    ------
    UsageError
        When the user has no home folder.
    """
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        folder = Path(configured) if configured else Path.home() / ".config"
    except RuntimeError as error:
        raise UsageError("there is no home folder to keep the key in", remedy="give --deidentify-key") from error
    return folder / "mammoscan" / "deidentify.key"


def read_or_make(path: Path, *, not_below: tuple[Path, ...]) -> tuple[bytes, str]:
    """The key in a file, and what the user should be told about it ('' for nothing).

    A missing file is made with 64 random hexadecimal digits, readable by its owner only.
    not_below: folders that must not hold the key, since they are handed on or never written to.

    Raises
    ------
    UsageError
        When the file lies where it must not, cannot be read or made, or holds too short a key.
    """
    if any(path.resolve().is_relative_to(folder.resolve()) for folder in not_below):
        raise UsageError(
            "the key must lie neither among the results nor in the archive", path=path, remedy="keep it elsewhere"
        )
    said = ""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(secrets.token_hex(32) + "\n")
            said = f"made a key for pseudonyms: {path}; keep it, and keep it secret: who has it can tell who is who"
        elif path.stat().st_mode & _OTHERS:
            said = f"others can read the key for pseudonyms: {path} (chmod 600 it)"
        key = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"the key cannot be read or made: {error.strerror}", path=path) from error
    if len(key) < SHORTEST:
        raise UsageError(
            f"the key has {len(key)} characters, at least {SHORTEST} are needed",
            path=path,
            remedy="remove the file to have a key made, or put a longer one there",
        )
    return key, said
