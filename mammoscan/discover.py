"""Find every file below an archive, and read their headers in parallel. Nothing is opened for writing."""

from __future__ import annotations

import logging
import os
import stat
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import joblib

from mammoscan.domain import Failed, Header, Skipped, SourceFile
from mammoscan.errors import Reason, Stage
from mammoscan.header import read_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

log = logging.getLogger(__name__)

Found = SourceFile | Skipped | Failed
CHUNK = 64  # headers a task: enough to hide what a task costs


def walk(root: Path, *, out: Path | None, follow_links: bool = True) -> Iterator[Found]:
    """Every file below ``root``, sorted by name in each folder, each once.

    The output folder is left out as a whole when it lies inside the archive. Folders that cannot be
    read are ``Failed``; links that lead nowhere or back are ``Skipped``; sockets, pipes and devices
    are never opened. Names that are no UTF-8 are shown with escapes and stay usable.
    """
    skip = _identity(out) if out is not None else None
    yield from _folder(Path(root), "", skip, follow_links, frozenset())


def _folder(
    folder: Path, prefix: str, skip: tuple[int, int] | None, follow: bool, parents: frozenset[tuple[int, int]]
) -> Iterator[Found]:
    identity = _identity(folder)
    if identity is None:
        yield Failed(_nothing(folder, prefix.rstrip("/")), Stage.DISCOVER, Reason.UNREADABLE)
        return
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda e: os.fsencode(e.name))
    except OSError as error:
        yield Failed(
            _nothing(folder, shown(prefix.rstrip("/") or ".")), Stage.DISCOVER, Reason.UNREADABLE, error.strerror or ""
        )
        return
    inside = parents | {identity}
    for entry in listed:
        path, relative = Path(entry.path), prefix + entry.name
        try:
            if entry.is_symlink() and not follow:
                yield Skipped(
                    _nothing(path, shown(relative)), Stage.DISCOVER, Reason.LINK_LOOP, "links are not followed"
                )
                continue
            status = path.stat()
        except OSError as error:
            reason = Reason.LINK_LOOP if entry.is_symlink() else Reason.UNREADABLE
            kind = Skipped if entry.is_symlink() else Failed
            yield kind(_nothing(path, shown(relative)), Stage.DISCOVER, reason, error.strerror or "")
            continue
        if stat.S_ISDIR(status.st_mode):
            here = (status.st_dev, status.st_ino)
            if here == skip:
                continue
            if here in inside:
                yield Skipped(_nothing(path, shown(relative)), Stage.DISCOVER, Reason.LINK_LOOP, "leads back")
                continue
            yield from _folder(path, relative + "/", skip, follow, inside)
        elif stat.S_ISREG(status.st_mode):
            yield SourceFile(path, shown(relative), status.st_size, status.st_mtime_ns)
        else:
            yield Skipped(_nothing(path, shown(relative)), Stage.DISCOVER, Reason.NOT_DICOM, "not a regular file")


def shown(relative: str) -> str:
    """A path as text that can be written anywhere: bytes that are no UTF-8 and control characters escaped."""
    text = relative.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_headers(
    files: Iterable[Found], *, include: tuple[str, ...], settle_seconds: float, workers: int
) -> Iterator[Header | Skipped | Failed]:
    """Read all headers, ``CHUNK`` files a task in ``workers`` processes; results in the files' order."""
    chunks = _chunks(files)
    first = next(chunks, None)
    if first is None:
        return
    second = next(chunks, None)
    if second is None or workers == 1:  # not worth starting processes
        for chunk in (first, *((second,) if second else ()), *chunks):
            yield from _read_chunk(chunk, include, settle_seconds)
        return
    tasks = (joblib.delayed(_read_chunk)(c, include, settle_seconds) for c in _chain(first, second, chunks))
    results = joblib.Parallel(n_jobs=workers, return_as="generator", pre_dispatch=4 * workers)(tasks)
    for chunk_results in results:
        yield from chunk_results


def _read_chunk(chunk: list[Found], include: tuple[str, ...], settle_seconds: float) -> list[Header | Skipped | Failed]:
    now = time.time()
    return [
        read_header(f, include=include, settle_seconds=settle_seconds, now=now) if isinstance(f, SourceFile) else f
        for f in chunk
    ]


def _chunks(files: Iterable[Found]) -> Iterator[list[Found]]:
    iterator = iter(files)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _chain(first: list[Found], second: list[Found], rest: Iterator[list[Found]]) -> Iterator[list[Found]]:
    yield first
    yield second
    yield from rest


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _nothing(path: Path, relative: str) -> SourceFile:
    """A place that is listed but not read."""
    return SourceFile(path, relative, 0, 0)
