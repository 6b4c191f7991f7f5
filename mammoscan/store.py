"""Whole files only: temporary file, fsync, replace; safe names; the lock of an output folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from typing import TYPE_CHECKING

from mammoscan.errors import LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_NAME = ".mammoscan.lock"
TEMPORARY_PREFIX = ".mammoscan-partial-"
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")
_LONGEST_NAME = 100


def safe_name(identifier: str) -> str:
    """A file name made from an identifier: letters, digits, dots and hyphens only.

    Injective for practical purposes: whatever had to be changed (or shortened, or differs only by
    case) gets a part of the identifier's SHA-256 appended. The result is never empty, never starts
    with a dot and cannot leave its folder.
    """
    cleaned = _UNSAFE.sub("-", identifier)[:_LONGEST_NAME].strip(".-")
    if cleaned and cleaned == identifier == identifier.lower():
        return cleaned
    digest = hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{cleaned.lower()}-{digest}" if cleaned else digest


def write_atomic(path: Path, content: bytes) -> None:
    """Write a whole file or nothing, also when the machine stops in the middle.

    Raises
    ------
    OSError
        When the folder cannot be made or written; no partial file is left under ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files that only the owner reads; results follow the user's umask instead.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write a file only if its bytes would change; say whether it was written."""
    try:
        if path.read_bytes() == content:
            return False
    except FileNotFoundError:
        pass
    write_atomic(path, content)
    return True


def remove_partial_files(folder: Path) -> int:
    """Remove what a killed run left half-written below ``folder``; return how many files."""
    removed = 0
    for path in folder.rglob(f"{TEMPORARY_PREFIX}*"):
        path.unlink()
        removed += 1
    return removed


@contextlib.contextmanager
def output_lock(folder: Path) -> Iterator[None]:
    """Hold an output folder for one run. The kernel frees the lock if the process dies.

    Raises
    ------
    LockedError
        When another run holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                "another run is writing to this folder",
                path=folder,
                remedy="wait for it to end, or choose another --out",
            ) from None
        yield
    finally:
        os.close(handle)


def _umask() -> int:
    # Linux shows the umask without the usual set-and-restore, which is not safe among threads.
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
