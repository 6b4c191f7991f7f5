"""The machine's faults in words: what the operating system or SQLite refuses, with cause and remedy."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import TYPE_CHECKING

from mammoscan.core.errors import LockedError, MachineError, MammoscanError

if TYPE_CHECKING:
    from pathlib import Path

_AGAIN = "then run the same command again: it continues where it stopped"
_SPACE = (f"no space is left: {os.strerror(errno.ENOSPC)}", f"free some space, {_AGAIN}")
_READ_ONLY = ("the file system is read-only", "make it writable, or choose a place elsewhere")
_FORBIDDEN = ("permission is denied", "give the user that runs mammoscan the right to write there")
_STORAGE = ("the storage does not answer as it should", f"check it, {_AGAIN}")
_FILES = ("too many files are open", "raise the limit (ulimit -n), or use fewer --workers")
# What the system says of a place where mammoscan writes, or of the machine as a whole.
_SYSTEM = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: ("the quota is used up", f"free some space, {_AGAIN}"),
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.ENOENT: ("there is no such folder or file", "make it, or name another place"),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "name another place"),
    errno.EEXIST: ("something else has this name", "remove it, or name another place"),
    errno.EISDIR: ("this is a folder, not a file", "remove it, or name another place"),
    errno.ENAMETOOLONG: ("this path is too long", "name a place with a shorter path"),
    errno.ELOOP: ("symbolic links lead in a circle", "name another place"),
    errno.EFBIG: ("the file is larger than the file system or a limit allows", "choose another place, or raise the limit"),
    errno.EIO: _STORAGE,
    errno.ESTALE: _STORAGE,
    errno.ENOTCONN: _STORAGE,
    errno.EHOSTDOWN: _STORAGE,
    errno.ETIMEDOUT: _STORAGE,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: ("the memory is used up", "use fewer --workers, or more memory"),
    errno.EAGAIN: ("the machine allows no more processes or locks", "raise the limit (ulimit -u), or use fewer --workers"),
    errno.ENOLCK: (
        "this file system has no locks, without which two runs would write over each other",
        "choose an --out on a local disk, or mount the share with locks (NFS: version 4, or the lock service)",
    ),
}  # fmt: skip
# Of a place that the error names: a share that does not take such names, say. Of no place it would be our own mistake.
_PLACE = {
    errno.EINVAL: ("the file system refuses this name, or what is to be done with it", "choose a place on another one")
}
# Those that meet every study alike: a report that meets them ends the run, since the next one would as well.
_OF_THE_MACHINE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT,
     errno.EMFILE, errno.ENFILE, errno.ENOMEM)
)  # fmt: skip
# By the words of SQLite's own messages (sqlite3_errstr), which Python 3.10 gives without their code.
_STATE = (
    (("locked",), "another program holds the state file", "end that program, or wait for it, then run again"),
    (("full",), *_SPACE),
    (("readonly", "read-only"), "the state file cannot be written", "make it and its folder writable"),
    (("unable to open",), "the state file cannot be opened", "check its permissions and those of its folder"),
    (("disk I/O",), *_STORAGE),
    (("malformed", "not a database", "no such table", "no such column", "no column", "file is encrypted"),
     "the state file is damaged",
     "put a copy back; or move this folder away, or remove the state file and `studies`: then all is analysed again"),
)  # fmt: skip
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def of_the_machine(error: BaseException) -> bool:
    """Whether an error would meet the next piece of work as well: disk full, storage gone, no more files."""
    return isinstance(error, OSError) and error.errno in _OF_THE_MACHINE


def explained(error: BaseException, *, path: Path | str | None = None) -> MammoscanError | None:
    """An error of the operating system or of SQLite in words; None for what is nobody's plan.

    path: where it happened, if the error itself does not say.
    """
    if isinstance(error, sqlite3.Error):
        return _of_the_state_file(error, path)
    if isinstance(error, MemoryError):
        return MachineError("the memory is used up", remedy="use fewer --workers, or more memory")
    known = _SYSTEM | _PLACE if isinstance(error, OSError) and _place(error) else _SYSTEM
    if isinstance(error, OSError) and error.errno in known:
        cause, remedy = known[error.errno]
        word = os.strerror(error.errno)
        return MachineError(cause if word in cause else f"{cause}: {word}", path=_place(error) or path, remedy=remedy)
    return None


def damaged(path: Path, detail: str) -> MachineError:
    """A state file that cannot be used, in the same words as one that SQLite complains of."""
    _, cause, remedy = _STATE[-1]
    return MachineError(f"{cause} ({detail})", path=path, remedy=remedy)


def no_locks(path: Path) -> MachineError:
    """A file system without locks, whatever number it says so by."""
    cause, remedy = _SYSTEM[errno.ENOLCK]
    return MachineError(cause, path=path, remedy=remedy)


def _of_the_state_file(error: sqlite3.Error, path: Path | str | None) -> MammoscanError | None:
    said = str(error)
    for words, cause, remedy in _STATE:
        if any(word in said for word in words):
            kind = LockedError if words == ("locked",) else MachineError
            return kind(cause, path=path or "the state file", remedy=remedy)
    return None


def _place(error: OSError) -> str:
    """What the error names, the target of a move before its temporary source."""
    name = error.filename2 if error.filename2 is not None else error.filename
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
