"""Find every file below an archive. Nothing is opened."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from mammoscan.core.domain import Failed, Skipped, SourceFile
from mammoscan.core.errors import Reason, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Found = SourceFile | Skipped | Failed
_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # what a link that leads nowhere or to itself gives


def walk(
    root: Path, *, out: Path | None, follow_links: bool = True, known: Callable[[str, int, int], bool] | None = None
) -> Iterator[Found]:
    """Every file below ``root``, sorted by name in each folder; every folder is entered once.

    Folders proper come first, folders behind symbolic links after all of them, so that a file has
    the path it really lies at wherever it has one. The output folder is left out as a whole and
    listed once. Folders that cannot be read are ``Failed``; links that lead nowhere or to a folder
    already listed are ``Skipped``; sockets, pipes and devices are never opened. Names that are no
    UTF-8 are shown with escapes and stay usable. Memory holds the names of the folders on the way down.

    known: asked of every file by its place (``SourceFile.relative``), size (bytes) and time (nanoseconds since the
    epoch); those that are known are left out.
    """
    skip = _identity(out) if out is not None else None
    linked: deque[tuple[str, str]] = deque()
    with contextlib.closing(_Entered()) as entered:
        yield from _tree(os.fspath(root), "", skip, entered, linked, known, follow=follow_links)
        while linked:
            path, relative = linked.popleft()
            yield from _tree(path, relative, skip, entered, linked, known, follow=follow_links)


class _Entered:
    """The folders that were entered: a private database on the disk beyond a few megabytes, since there may be millions."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(
            "CREATE TABLE entered (device INTEGER, inode INTEGER, PRIMARY KEY (device, inode)) WITHOUT ROWID"
        )
        self._db.execute("BEGIN")

    def add(self, status: os.stat_result) -> bool:
        """Enter a folder; False where that was done before."""
        # Identities are unsigned, SQLite's integers are not.
        here = [number - (1 << 64) if number >= 1 << 63 else number for number in (status.st_dev, status.st_ino)]
        return self._db.execute("INSERT OR IGNORE INTO entered VALUES (?, ?)", here).rowcount == 1

    def close(self) -> None:
        self._db.close()


def _tree(
    top: str, relative: str, skip: tuple[int, int] | None, entered: _Entered, linked: deque[tuple[str, str]],
    known: Callable[[str, int, int], bool] | None, *, follow: bool,
) -> Iterator[Found]:  # fmt: skip
    """One tree without the folders behind links, which are added to ``linked``."""
    # A stack, not recursion: folders nest as deep as path names are long. Of each folder the names below it are held.
    stack: list[tuple[str, str, Iterator[str]]] = [("", "", iter([""]))]
    while stack:
        above, inner, names = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
            continue
        path = os.path.join(above, name) if above else top
        place = f"{inner}/{name}" if inner else name or relative
        folders: list[str] = []
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) == skip:
                yield Skipped(_nothing(path, place), Stage.DISCOVER, Reason.OUTPUT, "the whole folder")
                continue
            if not entered.add(status):
                yield Skipped(_nothing(path, place), Stage.DISCOVER, Reason.LINK_LOOP, "a folder already listed")
                continue
            listed = sorted(os.listdir(path), key=os.fsencode)
        except OSError as error:
            yield Failed(_nothing(path, place), Stage.DISCOVER, Reason.UNREADABLE, error.strerror or "")
            continue
        for entry in listed:
            lies, shown_as = os.path.join(path, entry), f"{place}/{entry}" if place else entry
            found = _entry(lies, shown_as, known, follow=follow)
            if found is _FOLDER:
                folders.append(entry)
            elif found is _LINK:
                linked.append((lies, shown_as))
            elif isinstance(found, (SourceFile, Skipped, Failed)):
                yield found
        stack.append((path, place, iter(folders)))


_KNOWN, _FOLDER, _LINK = object(), object(), object()


def _entry(path: str, relative: str, known: Callable[[str, int, int], bool] | None, *, follow: bool) -> object:
    """What an entry of a folder is: something found, a file that is known, a folder that is to be entered, or a link to one."""
    try:
        status = os.lstat(path)
        link = stat.S_ISLNK(status.st_mode)
        if link and not follow:
            return Skipped(_nothing(path, relative), Stage.DISCOVER, Reason.LINK_LOOP, "links are not followed")
        if link:
            try:
                status = os.stat(path)
            except OSError as error:
                if error.errno in _NOWHERE:
                    return Skipped(_nothing(path, relative), Stage.DISCOVER, Reason.LINK_LOOP, error.strerror or "")
                raise
    except OSError as error:
        return Failed(_nothing(path, relative), Stage.DISCOVER, Reason.UNREADABLE, error.strerror or "")
    if stat.S_ISDIR(status.st_mode):
        return _LINK if link else _FOLDER
    if stat.S_ISREG(status.st_mode):
        place = shown(relative)
        if known is not None and known(place, status.st_size, status.st_mtime_ns):
            return _KNOWN
        return SourceFile(Path(path), place, status.st_size, status.st_mtime_ns)
    return Skipped(_nothing(path, relative), Stage.DISCOVER, Reason.NOT_DICOM, "not a regular file")


def shown(relative: str) -> str:
    """A path as text that can be written anywhere, a different text for every path.

    Bytes that are no UTF-8, control characters and the backslash itself are escaped.
    """
    if relative.isascii() and relative.isprintable() and "\\" not in relative:
        return relative
    text = relative.replace("\\", r"\x5c").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _nothing(path: str, relative: str) -> SourceFile:
    """A place that is listed but not read."""
    return SourceFile(Path(path), shown(relative) or ".", 0, 0)
