"""What worker processes do: functions of small, picklable arguments, on this machine or on another one."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mammoscan.archive import identity
from mammoscan.archive.header import read_header
from mammoscan.core.domain import Analysed, Failed
from mammoscan.core.errors import InputError, Reason, Stage
from mammoscan.image.analyse import analyse, failed
from mammoscan.run import previews, twins
from mammoscan.run.inventory import Facts

if TYPE_CHECKING:
    from pathlib import Path

    from mammoscan.core.config import AnalysisConfig
    from mammoscan.core.domain import Header, Scored, SourceFile
    from mammoscan.image.crops import CropGeometry

_BLOCK = 1 << 20  # bytes read at once

# What was found of files that carry one SOPInstanceUID; of one that cannot be read, the system's words follow.
SAME, DIFFERENT, UNREADABLE = "same", "different", "unreadable:"


@dataclass(frozen=True, slots=True)
class Settings:
    """How images are analysed, for workers. crop, ranking, outlines: the model's. anonymous: see ``analyse``."""

    analysis: AnalysisConfig
    crop: CropGeometry
    ranking: Path
    outlines: Path
    anonymous: bool


@dataclass(frozen=True, slots=True)
class Worked:
    """What became of an image, and the SHA-256 of its file; b'' where the file cannot be read or changed."""

    result: Analysed | Scored | Failed
    content: bytes


def read_headers(files: tuple[SourceFile, ...], root: Path, settle_seconds: float) -> list[Facts]:
    """What the headers of some files say. The rules about images are left to the planner."""
    now = time.time()
    return [Facts.of(read_header(file, include=None, settle_seconds=settle_seconds, now=now), root) for file in files]


def analyse_file(header: Header, settings: Settings, picture: Path) -> Worked:
    """Analyse one image; its preview goes to a file."""
    result = analyse(header, settings.analysis, settings.crop, settings.ranking, settings.outlines, settings.anonymous)
    if isinstance(result, Analysed):
        assert result.preview is not None
        previews.write(picture, result.preview)
        result = replace(result, preview=None)
    elif result.reason.passing:
        return Worked(result, b"")
    try:
        return Worked(result, content(header))
    except InputError as error:
        return Worked(failed(header, Stage.PIXELS, error.reason, error.detail), b"")
    except OSError as error:
        return Worked(failed(header, Stage.PIXELS, Reason.UNREADABLE, error.strerror or ""), b"")


def content(header: Header) -> bytes:
    """SHA-256 of a file's bytes.

    Raises
    ------
    InputError
        When it is not the file any more that the header was read from.
    OSError
        When it cannot be read.
    """
    digest = hashlib.sha256()
    with header.file.path.open("rb") as stream, identity.unchanged(stream, header):
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.digest()


def content_if_readable(header: Header) -> bytes:
    """``content``; b'' where there is none to compare."""
    try:
        return content(header)
    except (InputError, OSError):
        return b""


def compare(headers: tuple[Header, ...]) -> str:
    """What is to be said of files that carry one SOPInstanceUID."""
    try:
        return SAME if twins.same(list(headers)) else DIFFERENT
    except OSError as error:
        return UNREADABLE + (error.strerror or "")
