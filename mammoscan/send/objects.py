"""The objects of a results folder: what is said of them, and each read when it is wanted and checked."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mammoscan.core.errors import MammoscanError
from mammoscan.send.transport import Item

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

_UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


class ResultObject(NamedTuple):
    """A DICOM object among the results: a row of the state file, and as light, since there may be a million.

    path: below the results folder. The UIDs are '' where the state file does not know them.
    """

    path: str
    sha256: str
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    series_instance_uid: str = ""
    study_instance_uid: str = ""


class Results(Protocol):
    """The state file of a results folder, as far as sending needs it."""

    @property
    def connection(self) -> sqlite3.Connection:
        """The database, in which the queue has a table of its own."""

    def dicom_objects(self) -> Iterator[ResultObject]:
        """The DICOM objects among the results in the order of their paths (by code points), each once."""


class ObjectError(MammoscanError):
    """One object that cannot be sent as it lies in the folder."""

    code = "object"


def read(path: Path, sha256: str) -> bytes:
    """The bytes of a result.

    Raises
    ------
    ObjectError
        When it is missing, or is not what was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ObjectError(
            f"this result cannot be read: {error.strerror}", path=path, remedy="run `mammoscan run` again"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ObjectError(
            "this is not the file that was written", path=path, remedy="remove it and run `mammoscan run` again"
        )
    return content


def item(path: Path, relative: str, sha256: str) -> Item:
    """A result with its UIDs.

    Raises
    ------
    ObjectError
        When it is missing, not what was written, or no DICOM object.
    """
    import pydicom

    content = read(path, sha256)
    try:
        ds = pydicom.dcmread(io.BytesIO(content), specific_tags=list(_UIDS), stop_before_pixels=True)
        uids = [str(ds[name].value) for name in _UIDS]
    except Exception as error:  # pydicom raises many kinds for what is no DICOM file; all mean the same here
        raise ObjectError(
            "this result is no DICOM object", path=path, remedy="remove it and run `mammoscan run` again"
        ) from error
    return Item(path, relative, sha256, *uids)
