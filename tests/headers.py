"""The headers of files below a folder, read one after the other in this process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mammoscan.archive.header import read_header
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mammoscan.core.domain import Failed, Header, Skipped

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
