"""Find every file below an archive. Nothing is opened."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from mammoscan.core.domain import Failed, Skipped, SourceFile
from mammoscan.core.errors import Reason, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

Found = SourceFile | Skipped | Failed
_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # what a link that leads nowhere or to itself gives


def walk(root: Path, *, out: Path | None, follow_links: bool = True) -> Iterator[Found]:
    """Every file below ``root``, sorted by name in each folder; every folder is entered once.

    Folders proper come first, folders behind symbolic links after all of them, so that a file has
    the path it really lies at wherever it has one. The output folder is left out as a whole and
    listed once. Folders that cannot be read are ``Failed``; links that lead nowhere or to a folder
    already listed are ``Skipped``; sockets, pipes and devices are never opened. Names that are no
    UTF-8 are shown with escapes and stay usable.
    """
    skip = _identity(out) if out is not None else None
    entered: set[tuple[int, int]] = set()
    linked: deque[tuple[Path, str]] = deque()
    yield from _tree(Path(root), "", skip, entered, linked, follow=follow_links)
    while linked:
        path, relative = linked.popleft()
        yield from _tree(path, relative, skip, entered, linked, follow=follow_links)


def _tree(
    top: Path, relative: str, skip: tuple[int, int] | None, entered: set[tuple[int, int]],
    linked: deque[tuple[Path, str]], *, follow: bool,
) -> Iterator[Found]:  # fmt: skip
    """One tree without the folders behind links, which are added to ``linked``."""
    # A stack, not recursion: folders nest as deep as path names are long.
    waiting = [(top, relative)]
    while waiting:
        path, relative = waiting.pop()
        try:
            status = path.stat()
            here = (status.st_dev, status.st_ino)
            if here == skip:
                yield Skipped(_nothing(path, relative), Stage.DISCOVER, Reason.OUTPUT, "the whole folder")
                continue
            if here in entered:
                yield Skipped(_nothing(path, relative), Stage.DISCOVER, Reason.LINK_LOOP, "a folder already listed")
                continue
            with os.scandir(path) as entries:
                listed = sorted(entries, key=lambda e: os.fsencode(e.name))
        except OSError as error:
            yield Failed(_nothing(path, relative), Stage.DISCOVER, Reason.UNREADABLE, error.strerror or "")
            continue
        entered.add(here)
        folders = []
        for entry in listed:
            inner = f"{relative}/{entry.name}" if relative else entry.name
            found = _entry(entry, inner, follow=follow)
            if found is not None:
                yield found
            elif entry.is_symlink():
                linked.append((Path(entry.path), inner))
            else:
                folders.append((Path(entry.path), inner))
        waiting.extend(reversed(folders))


def _entry(entry: os.DirEntry[str], relative: str, *, follow: bool) -> Found | None:
    """What an entry of a folder is; None for a folder that is to be entered."""
    path = Path(entry.path)
    if entry.is_symlink() and not follow:
        return Skipped(_nothing(path, relative), Stage.DISCOVER, Reason.LINK_LOOP, "links are not followed")
    try:
        status = entry.stat()
    except OSError as error:
        place = _nothing(path, relative)
        if entry.is_symlink() and error.errno in _NOWHERE:
            return Skipped(place, Stage.DISCOVER, Reason.LINK_LOOP, error.strerror or "")
        return Failed(place, Stage.DISCOVER, Reason.UNREADABLE, error.strerror or "")
    if stat.S_ISDIR(status.st_mode):
        return None
    if stat.S_ISREG(status.st_mode):
        return SourceFile(path, shown(relative), status.st_size, status.st_mtime_ns)
    return Skipped(_nothing(path, relative), Stage.DISCOVER, Reason.NOT_DICOM, "not a regular file")


def shown(relative: str) -> str:
    """A path as text that can be written anywhere, a different text for every path.

    Bytes that are no UTF-8, control characters and the backslash itself are escaped.
    """
    text = relative.replace("\\", r"\x5c").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _nothing(path: Path, relative: str) -> SourceFile:
    """A place that is listed but not read."""
    return SourceFile(path, shown(relative) or ".", 0, 0)
