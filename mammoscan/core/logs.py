"""The log of a run: what it holds, what workers say, and what libraries print.

Nothing here ever shows a value of a header: exceptions are logged by their type and their frames, never by their
message, and Python's warnings by their kind and place. With pseudonyms, what libraries print is kept only where
its words are known.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import sysconfig
import tempfile
import threading
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mammoscan.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper
    from types import TracebackType
    from typing import TextIO

ROOT = "mammoscan"
_LIBRARY = logging.getLogger("mammoscan.library")
_PARENTS = (Path(__file__).parent.parent, *(Path(sysconfig.get_path(k)) for k in ("purelib", "stdlib")))
# What codecs and the network's library are known to say, in which nothing names a person.
_KNOWN = re.compile(
    r"Not a JPEG file: starts with 0x\w\w 0x\w\w|Corrupt JPEG data: [\w ]+|Premature end of JPEG file|"
    r"(?:Error|Warning) in [\w:]+|(?:terminate called after throwing an instance of|free\(\):|double free) [\w:'() ]+|"
    r"Segmentation fault|Killed|Aborted"
)
_END = b"\0end of what is captured\n"


@dataclass(frozen=True, slots=True)
class Said:
    """A line of the log from another process."""

    level: int
    name: str
    text: str


class _Formatter(logging.Formatter):
    def formatException(self, ei: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:  # type: ignore[override]  # noqa: N802 (the library's name)
        return frames(ei[1])


class _File(logging.FileHandler):
    """A file that is no reason to print a traceback when it cannot be written (its disk is full, say)."""

    trouble: OSError | None = None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the library's name)
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.trouble = error
        else:
            super().handleError(record)


class _Collector(logging.Handler):
    def __init__(self, said: list[Said]) -> None:
        super().__init__()
        self.said = said
        self.setFormatter(_Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(Said(record.levelno, record.name, self.format(record)))


def set_up(log_file: Path | None) -> None:
    """Log to a file if one is given, else nowhere.

    Raises
    ------
    UsageError
        When the file cannot be opened.
    """
    root = logging.getLogger(ROOT)
    root.setLevel(logging.INFO)
    root.propagate = False
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    if log_file is None:
        root.addHandler(logging.NullHandler())
        return
    try:
        file = _File(log_file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(
            f"the log cannot be written there: {error.strerror}",
            path=log_file,
            remedy="make its folder, or name another",
        ) from error
    file.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root.addHandler(file)


def file() -> Path | None:
    """Where the log goes."""
    return next((Path(h.baseFilename) for h in logging.getLogger(ROOT).handlers if isinstance(h, _File)), None)


def trouble() -> OSError | None:
    """Why the log is not whole, None where it is."""
    return next((h.trouble for h in logging.getLogger(ROOT).handlers if isinstance(h, _File)), None)


def frames(error: BaseException) -> str:
    """A traceback with places and types, without what the exceptions say: that may quote a header."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    # loky hands a worker's traceback on as the text of a cause; the worker has logged its frames itself.
    earlier = f"{frames(before)}\nwhich led to\n" if before and type(before).__name__ != "_RemoteTraceback" else ""
    lines = ["Traceback (most recent call last):"]
    for frame in traceback.extract_tb(error.__traceback__):
        lines.append(f'  File "{_short(frame.filename)}", line {frame.lineno}, in {frame.name}')
        if frame.line:
            lines.append(f"    {frame.line}")
    return earlier + "\n".join([*lines, type(error).__qualname__])


def keep(error: BaseException) -> str:
    """Log an unexpected exception; where there is no log, write a file of its own. Returns where it stands."""
    log = logging.getLogger(ROOT)
    log.critical("unexpected end", exc_info=error)
    if (place := file()) and not trouble():
        return str(place)
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="mammoscan-error-", suffix=".log", delete=False, encoding="utf-8"
        ) as stream:
            stream.write(frames(error) + "\n")
            return stream.name
    except OSError:
        return ""


# --------------------------------------------------------------------------- from workers


@contextlib.contextmanager
def collected() -> Iterator[list[Said]]:
    """What is logged meanwhile, for a process that has no log of its own."""
    root = logging.getLogger(ROOT)
    said: list[Said] = []
    root.handlers, root.propagate = [_Collector(said)], False
    root.setLevel(logging.INFO)
    warnings.showwarning = _warned
    try:
        yield said
    finally:
        root.handlers = [logging.NullHandler()]


def replay(said: list[Said]) -> None:
    """Log what a worker said."""
    for line in said:
        logging.getLogger(line.name).log(line.level, "%s", line.text)


def _warned(
    message: Warning | str,  # noqa: ARG001 (not what it says: that often quotes a header)
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 (as the library calls it)
    line: str | None = None,  # noqa: ARG001
) -> None:
    _LIBRARY.info("%s at %s:%d", category.__name__, _short(filename), lineno)


def _short(filename: str) -> str:
    """A module's path without that of the installation, which may name a person."""
    path = Path(filename)
    return next((str(path.relative_to(parent)) for parent in _PARENTS if path.is_relative_to(parent)), path.name)


# --------------------------------------------------------------------------- what libraries print


@contextlib.contextmanager
def session(log_file: Path | None, *, anonymous: bool) -> Iterator[None]:
    """Log as ``set_up`` does; what libraries and workers print meanwhile goes to the log, never to the terminal.

    Libraries write to the file descriptors 1 and 2, which workers inherit. Both lead into a pipe for the time
    being; ``sys.stdout`` and ``sys.stderr`` keep leading where they did. anonymous: keep known words only.

    Raises
    ------
    UsageError
        When the log cannot be opened.
    """
    set_up(log_file)
    shown, last = warnings.showwarning, logging.lastResort
    warnings.showwarning = _warned
    logging.lastResort = logging.NullHandler()
    reading, writing = os.pipe()
    reader = threading.Thread(target=_read, args=(reading, anonymous), daemon=True)
    reader.start()
    aside = [s for s in (_set_aside("stdout", 1, writing), _set_aside("stderr", 2, writing)) if s]
    try:
        yield
    finally:
        for name, descriptor, old, moved in aside:
            moved.flush()
            os.dup2(moved.fileno(), descriptor)
            if getattr(sys, name) is moved:
                setattr(sys, name, old)
            moved.close()
        # Workers may still hold the pipe, so that its end would never come.
        os.write(writing, _END)
        os.close(writing)
        reader.join(timeout=5)
        warnings.showwarning, logging.lastResort = shown, last


def _set_aside(name: str, descriptor: int, pipe: int) -> tuple[str, int, TextIOWrapper, TextIOWrapper] | None:
    """Let a descriptor lead into the pipe and a stream of Python, if it used it, lead where it did."""
    old = getattr(sys, name)
    try:
        old.flush()
        if old.fileno() != descriptor:
            return None
        copy = os.dup(descriptor)
    except (AttributeError, OSError, ValueError):
        return None  # closed, or replaced by something without a descriptor: nothing to keep apart
    moved = os.fdopen(copy, "w", buffering=1, encoding=old.encoding, errors="backslashreplace")
    setattr(sys, name, moved)
    os.dup2(pipe, descriptor)
    return name, descriptor, old, moved


def _read(pipe: int, anonymous: bool) -> None:
    with open(pipe, "rb") as stream:
        for line in stream:
            text = _printable(line.removesuffix(_END))
            if text and anonymous and not _KNOWN.fullmatch(text):
                text = f"(a line of {len(text)} characters is left out: --deidentify)"
            if text:
                _LIBRARY.info("%s", text)
            if line.endswith(_END):
                return


def _printable(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace").strip()
    return "".join(c if c.isprintable() else " " for c in text)
