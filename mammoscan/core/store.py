"""Whole files only: temporary file, fsync, replace; safe names; the lock of an output folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from mammoscan.core import faults
from mammoscan.core.errors import LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

STUDIES = "studies"  # the folder of reports below an output folder
LOCK_NAME = ".mammoscan.lock"
TEMPORARY_PREFIX = ".mammoscan-partial-"
# What file systems answer that cannot bring a folder to the disk (CIFS before Linux 4.17, FUSE, 9p).
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")
_LONGEST_NAME = 100
_BLOCK = 1 << 20  # bytes
_AT_ONCE = 1 << 30  # bytes that the system is asked to copy


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


def study_folder(study_instance_uid: str) -> str:
    """The folder of a study's reports below the output folder, as a POSIX path."""
    return f"{STUDIES}/{safe_name(study_instance_uid)}"


def remove(out: Path, name: str) -> bool:
    """Remove a study's file (a path below ``out``), and its folder with the last one; say whether it lay there.

    What a state file names elsewhere is left alone.
    """
    parts = PurePosixPath(name).parts
    if len(parts) != 3 or parts[0] != STUDIES or ".." in parts:
        return False
    path = out / name
    try:
        path.unlink()
        found = True
    except (FileNotFoundError, NotADirectoryError):
        found = False
    with contextlib.suppress(OSError):  # not empty, or gone already
        path.parent.rmdir()
    return found


def write_atomic(path: Path, content: bytes) -> None:
    """Write a whole file or nothing, also when the machine stops in the middle.

    Raises
    ------
    OSError
        When the folder cannot be made or written; no partial file is left under ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        _write_new(temporary, content)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None:
            # What was to be written, not its passing name, or none as a full disk gives.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _sync_folder(path.parent)


def _write_new(path: Path, content: bytes) -> None:
    # Made with the user's umask: a chmod afterwards is refused on some shares.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


class Fresh:
    """A file that is written in pieces beside the old one, and takes its place whole or not at all."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        handle = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._stream: BinaryIO | None = os.fdopen(handle, "wb", buffering=_BLOCK)
        self.write = self._stream.write

    def copy(self, source: int, offset: int, count: int) -> None:
        """Bytes of another open file, without going through this process."""
        assert self._stream is not None
        self._stream.flush()
        while count:
            copied = os.sendfile(self._stream.fileno(), source, offset, min(count, _AT_ONCE))
            if not copied:
                raise OSError(errno.EIO, "the file ends too early", str(self._path))
            offset, count = offset + copied, count - copied

    def settle(self, *, compare: bool = True) -> bool:
        """Take the old file's place if the bytes differ; say whether they do. compare: else they are known to."""
        assert self._stream is not None
        try:
            self._stream.flush()
            changed = not (compare and _same(self._path, self._temporary))
            if changed:
                os.fsync(self._stream.fileno())
                self._stream.close()
                os.replace(self._temporary, self._path)
                _sync_folder(self._path.parent)
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        return changed

    def abandon(self) -> None:
        """Leave nothing of it behind but what has taken its place."""
        if self._stream is not None:
            with contextlib.suppress(OSError):  # a full disk was met when it was written
                self._stream.close()
            self._stream = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)


def _same(first: Path, second: Path) -> bool:
    """Whether two files hold the same bytes; a missing first one does not."""
    try:
        with open(first, "rb") as one, open(second, "rb") as other:
            if os.fstat(one.fileno()).st_size != os.fstat(other.fileno()).st_size:
                return False
            while block := one.read(_BLOCK):
                if block != other.read(_BLOCK):
                    return False
            return True
    except FileNotFoundError:
        return False


def write_scratch(path: Path, content: bytes) -> None:
    """Write a file that is made again if it is lost: whole or not at all, but not brought to the disk at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


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
    MachineError
        When the file system has no locks.
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
        except OSError as error:
            if error.errno in faults.NO_LOCKS:
                raise faults.no_locks(folder) from error
            raise
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the file system can: some shares refuse that for folders."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return  # may be written and searched, not listed
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
        log.info("this file system does not sync folders: %s", error.strerror)
    finally:
        os.close(handle)
