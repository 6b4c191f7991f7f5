"""Images of the sets: DICOM through the scanner's own header and pixel stages, and PNG, JPEG, PGM."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pydicom

from mammoscan.archive import header as headers
from mammoscan.archive.dicomfile import read_header_dataset
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import (
    Age,
    AgeSource,
    Density,
    DensityReading,
    DensitySource,
    Header,
    Image,
    Laterality,
    Patient,
    Sex,
    SourceFile,
    Spacing,
    SpacingSource,
    StudyFacts,
    View,
)
from mammoscan.core.errors import InputError, Reason
from mammoscan.image import pixels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

PLAIN = {".png", ".jpg", ".jpeg", ".pgm"}
MAX_PIXELS = AnalysisConfig().max_pixels


def is_plain(path: Path) -> bool:
    """Whether the name is that of a PNG, JPEG or PGM file; everything else is taken for DICOM."""
    return path.suffix.lower() in PLAIN


def dicom_header(path: Path) -> Header:
    """The facts of a DICOM image, without the rules of an archive: a film scan needs no UIDs to train on.

    Raises
    ------
    InputError
        When it cannot be read or holds no single image.
    """
    with _as_input_error(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about values that are checked in parse_header
        status = path.stat()
        file = SourceFile(path, path.name, status.st_size, status.st_mtime_ns)
        found = headers.parse_header(read_header_dataset(file), file)
    if found.skip is Reason.MULTIFRAME:
        raise InputError(Reason.MULTIFRAME)
    if not found.rows or not found.columns:
        raise InputError(Reason.NO_PIXELS, "Rows or Columns missing")
    return found


def plain_size(path: Path) -> tuple[int, int]:
    """(rows, columns) of a PNG, JPEG or PGM file, from its first bytes.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    with _as_input_error(), PIL.Image.open(path) as found:
        return found.height, found.width


def plain_header(
    path: Path,
    *,
    name: str,
    patient: str,
    laterality: Laterality,
    view: View,
    rows: int,
    columns: int,
    age: float | None = None,
    density: str = "",
    mm: float | None = None,
) -> Header:
    """A header for an image without one. density: 'a' to 'd' or ''. mm: pixel size, None if unknown."""
    return Header(
        file=SourceFile(path, path.name, 0, 0),
        sop_class_uid="",
        sop_instance_uid=name,
        series_instance_uid="",
        transfer_syntax_uid="",
        modality="MG",
        series_number=None,
        instance_number=None,
        patient=Patient(patient, "", "", "", Sex.UNKNOWN, ""),
        study=StudyFacts("", "", "", "", "", "", "", ""),
        age=None if age is None else Age(age, AgeSource.TABLE),
        laterality=laterality,
        view=view,
        view_modifiers=(),
        density=reading(density, laterality),
        manufacturer="",
        manufacturer_model="",
        spacing=Spacing(mm, mm, SpacingSource.TABLE) if mm else None,
        presentation_intent="FOR PRESENTATION",
        photometric="MONOCHROME2",
        rows=rows,
        columns=columns,
        bits_stored=8,
        patient_orientation=(),
        content_date="",
        content_time="",
        acquisition_date="",
        implant=None,
        partial_view=None,
        magnification=None,
        burned_in=None,
        lossy=None,
        flags=(),
        skip=None,
    )


def reading(density: str, laterality: Laterality) -> DensityReading | None:
    """A density 'a' to 'd' of a table; None for anything else."""
    return DensityReading(Density(density), DensitySource.TABLE, laterality) if density in set("abcd") else None


def read(header: Header) -> Image:
    """The image of a header of this module.

    Raises
    ------
    InputError
        When it cannot be read, or its size isn't the header's.
    """
    if not is_plain(header.file.path):
        return pixels.read_image(header, max_pixels=MAX_PIXELS)
    values = grey(header.file.path)
    if values.shape != (header.rows, header.columns):
        raise InputError(
            Reason.UNSUPPORTED_PIXELS,
            f"{values.shape[1]} x {values.shape[0]} pixels, expected {header.columns} x {header.rows}",
        )
    return Image(header, values, np.zeros(values.shape, bool))


def grey(path: Path) -> NDArray[np.float32]:
    """Grey values, 0 to 1, of a PNG, JPEG or PGM file, as stored (EXIF orientation is not applied).

    8 bits are divided by 255. 16 bits, whose range no such file states, go from lowest to highest.

    Raises
    ------
    InputError
        When it cannot be read, is truncated or too large.
    """
    with _as_input_error(), PIL.Image.open(path) as found:
        if found.width * found.height > MAX_PIXELS:
            raise InputError(Reason.TOO_LARGE, f"{found.width} x {found.height}")
        if found.mode.startswith("I"):
            deep = np.asarray(found).astype(np.float64)
            low, high = float(deep.min()), float(deep.max())
            return np.asarray((deep - low) / max(high - low, 1.0), np.float32)
        return np.asarray(np.asarray(found.convert("L"), np.float32) / np.float32(255.0))


def stored_values(path: Path) -> NDArray[np.float64]:
    """Stored values of a DICOM file without any display: for masks.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    with _as_input_error(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path)
        rows, columns = int(ds.get("Rows") or 0), int(ds.get("Columns") or 0)
        if rows * columns > MAX_PIXELS:
            raise InputError(Reason.TOO_LARGE, f"{columns} x {rows}")
        return np.asarray(pixels.decode(ds, rows, columns), np.float64)


@contextmanager
def _as_input_error() -> Iterator[None]:
    """Turn what Pillow, pydicom and the system raise for a bad file into InputError."""
    try:
        yield
    except pydicom.errors.InvalidDicomError as error:
        raise InputError(Reason.NOT_DICOM) from error
    except PIL.Image.DecompressionBombError as error:
        raise InputError(Reason.TOO_LARGE, str(error)) from error
    except OSError as error:  # Pillow's UnidentifiedImageError among them
        raise InputError(Reason.UNREADABLE, error.strerror or type(error).__name__) from error
    except (EOFError, ValueError, SyntaxError, RecursionError) as error:
        raise InputError(Reason.UNREADABLE, f"{type(error).__name__}: {error}") from error
