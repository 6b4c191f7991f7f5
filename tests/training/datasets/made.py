"""Small files in the published layouts of the sets."""

import struct

import numpy as np
import PIL.Image

from mammoscan.core.domain import Laterality, View
from mammoscan.synthetic.dicom import SECONDARY_CAPTURE, Shown, Subject, file_bytes, mammogram_dataset


def grey(shape, box, *, low=20, high=220):
    """A dark plane (rows, columns) with a bright box (x0, y0, x1, y1)."""
    plane = np.full(shape, low, np.uint8)
    x0, y0, x1, y1 = box
    plane[y0:y1, x0:x1] = high
    return plane


def write_image(path, plane):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(plane).save(path)
    return path


def write_dicom(path, plane, *, side="L", view="CC", bits=12, spacing=None, description="", sop_class=None, **changes):
    """A DICOM image of stored values; film scans of TCIA are Secondary Captures."""
    ds = mammogram_dataset(
        plane.astype(np.uint8 if bits == 8 else np.uint16),
        laterality=Laterality(side),
        view=View[view],
        subject=Subject("removed"),
        shown=Shown(bits=bits),
        spacing_mm=spacing,
        sop_class=sop_class or SECONDARY_CAPTURE,
    )
    if description:
        ds.SeriesDescription = description
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_bytes(ds))
    return path


def bright(pixels):
    """Box (x0, y0, x1, y1) of the pixels above the middle."""
    rows, columns = np.nonzero(pixels > (pixels.min() + pixels.max()) / 2)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def xls(path, rows):
    """A BIFF8 workbook in an OLE2 file, as the programs of the time wrote them: numbers stay numbers."""

    def record(kind, body):
        return struct.pack("<HH", kind, len(body)) + body

    def cell(row, column, value):
        at = struct.pack("<HHH", row, column, 0)
        if isinstance(value, (int, float)):
            return record(0x0203, at + struct.pack("<d", value))
        text = value.encode("utf-16-le")
        return record(0x0204, at + struct.pack("<HB", len(value), 1) + text)

    begin = lambda kind: record(0x0809, struct.pack("<HHHHII", 0x0600, kind, 0, 1996, 0, 6))  # noqa: E731
    end = record(0x000A, b"")
    sheet = begin(0x0010)
    for r, values in enumerate(rows):
        for c, value in enumerate(values):
            if value != "":
                sheet += cell(r, c, value)
    name = struct.pack("<BB", 6, 0) + b"Sheet1"
    offset = len(begin(5)) + 4 + 6 + len(name) + len(end)
    stream = begin(5) + record(0x0085, struct.pack("<IBB", offset, 0, 0) + name) + end + sheet + end
    stream = stream.ljust(max(4096, -(-len(stream) // 512) * 512), b"\0")
    sectors = len(stream) // 512
    assert sectors < 120
    table = [-3, -2, *range(3, 2 + sectors), -2]
    fat = struct.pack("<128i", *table, *[-1] * (128 - len(table)))

    def entry(text, kind, child, start, size):
        written = text.encode("utf-16-le") + b"\0\0"
        return struct.pack(
            "<64sHBBiii16sI16siQ", written, len(written), kind, 1, -1, -1, child, b"", 0, b"", start, size
        )

    folder = entry("Root Entry", 5, 1, -2, 0) + entry("Workbook", 2, -1, 2, len(stream))
    header = struct.pack(
        "<8s16sHHHHH6sIIiIIiIiI", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"", 0x3E, 3, 0xFFFE, 9, 6, b"", 0, 1, 1, 0, 4096,
        -2, 0, -2, 0,
    ) + struct.pack("<109i", 0, *[-1] * 108)  # fmt: skip
    path.write_bytes(header + fat + folder.ljust(512, b"\0") + stream)
    return path
