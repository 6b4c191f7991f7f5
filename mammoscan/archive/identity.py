"""That a file is still the one whose header was planned."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, BinaryIO

from mammoscan.core.errors import InputError, Reason
from mammoscan.core.values import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydicom import Dataset

    from mammoscan.core.domain import Header


@contextlib.contextmanager
def unchanged(stream: BinaryIO, header: Header) -> Iterator[Callable[[Dataset], None]]:
    """Hold that an open file is the one that a header was read from, at the beginning and at the end.

    Yields what compares a data set's SOPInstanceUID. Times and identities that the header does not keep (0 and '',
    as with pseudonyms) are not compared.

    Raises
    ------
    InputError
        ``CHANGED``.
    """

    def instance(ds: Dataset) -> None:
        planned = header.sop_instance_uid
        if planned and whole(ds, "SOPInstanceUID").text != planned:
            raise InputError(Reason.CHANGED, "it holds another instance")

    _compare(stream, header)
    try:
        yield instance
    finally:
        # Also where reading failed: what was read of a file that changed meanwhile says nothing about either content.
        _compare(stream, header)


def _compare(stream: BinaryIO, header: Header) -> None:
    status, file = os.fstat(stream.fileno()), header.file
    if status.st_size != file.size:
        raise InputError(Reason.CHANGED, f"{status.st_size} instead of {file.size} bytes")
    if file.mtime_ns and status.st_mtime_ns != file.mtime_ns:
        raise InputError(Reason.CHANGED, "it was written to")
