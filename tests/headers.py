"""The headers of files below a folder, read one after the other in this process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mammoscan.archive import discover
from mammoscan.archive.header import read_header
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import Header, SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mammoscan.core.domain import Failed, Skipped

INCLUDE = AnalysisConfig().include


def read(
    found: Iterable[SourceFile | Skipped | Failed], *, include: tuple[str, ...] | None = INCLUDE
) -> Iterator[Header | Skipped | Failed]:
    """What the headers of files say; what the walk did not take for a file passes through.

    include: kinds of images that the rules let in; None: without the rules.
    """
    for item in found:
        is_file = isinstance(item, SourceFile)
        yield read_header(item, include=include, settle_seconds=0, now=time.time()) if is_file else item


def mammograms(archive: Path) -> list[Header]:
    """The headers of the images below a folder."""
    return [item for item in read(discover.walk(archive, out=None)) if isinstance(item, Header)]
