"""How a stored image is meant to be displayed: its modality and VOI transformations, for presentation states.

They are read from the source when a presentation state is written, since a lookup table of 65,536 entries is
nothing to carry along with every header.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.dicomfile import read_header_dataset
from mammoscan.values import as_number, items, number, text, texts

if TYPE_CHECKING:
    from pydicom import Dataset

    from mammoscan.domain import SourceFile

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True, slots=True)
class Lut:
    """A lookup table (PS3.3 C.11.1.1, C.11.2.1.1). kind: ModalityLUTType, '' for a VOI LUT."""

    first: int
    bits: int
    entries: tuple[int, ...]
    explanation: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Display:
    """Stored values to values of interest. Nothing is assumed: what the image lacks or states wrongly is None.

    rescale: slope, intercept and type. window: centre and width; function '' where it isn't stated.
    """

    rescale: tuple[float, float, str] | None = None
    modality_lut: Lut | None = None
    window: tuple[float, float] | None = None
    function: str = ""
    voi_lut: Lut | None = None


def read_display(file: SourceFile) -> Display:
    """Read an image's display transformations.

    Raises
    ------
    InputError, OSError
        When the file can no longer be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values are checked here
        return display_of(read_header_dataset(file))


def display_of(ds: Dataset) -> Display:
    """The display transformations of a header: a VOI LUT before a window, the first of several (PS3.3 C.11.2.1)."""
    slope, intercept = number(ds, "RescaleSlope"), number(ds, "RescaleIntercept")
    rescale = None
    if slope is not None and intercept is not None and slope != 0:
        rescale = (slope, intercept, text(ds, "RescaleType") or "US")
    modality_lut = _lut(items(ds, "ModalityLUTSequence"))
    voi_lut = _lut(items(ds, "VOILUTSequence"))
    window = None
    centre, width = ([as_number(v) for v in texts(ds, k)] for k in ("WindowCenter", "WindowWidth"))
    function = text(ds, "VOILUTFunction").upper()
    if voi_lut is None and centre and width and centre[0] is not None and width[0] is not None:
        least = 1.0 if function in {"", "LINEAR"} else 0.0  # PS3.3 C.11.2.1.2, C.11.2.1.3
        if width[0] >= least and width[0] > 0:
            window = (centre[0], width[0])
    return Display(
        rescale=None if modality_lut else rescale,
        modality_lut=modality_lut,
        window=window,
        function=function if window and function in FUNCTIONS else "",
        voi_lut=voi_lut,
    )


def _lut(sequence: list[Dataset]) -> Lut | None:
    if not sequence:
        return None
    item = sequence[0]
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or len(descriptor) != 3 or data is None:
        return None
    count, first, bits = (int(v) for v in descriptor)
    # The numbers come as signed or unsigned, as the reader understood the data set's representation.
    count = count % 65536 or 65536
    entries = _entries(data, count, bits)
    if len(entries) < count or not 8 <= bits <= 16:
        return None
    return Lut(first, bits, entries[:count], text(item, "LUTExplanation"), text(item, "ModalityLUTType"))


def _entries(data: Any, count: int, bits: int) -> tuple[int, ...]:
    if isinstance(data, bytes):
        # 8 bit tables are allocated with 8 or with 16 bits an entry (PS3.3 C.11.1.1.1).
        narrow = bits == 8 and len(data) < 2 * count
        return tuple(
            np.frombuffer(data[: len(data) - len(data) % (1 if narrow else 2)], "u1" if narrow else "<u2").tolist()
        )
    several = data if isinstance(data, (list, tuple)) or hasattr(data, "__len__") else [data]
    return tuple(int(v) % 65536 for v in several)
