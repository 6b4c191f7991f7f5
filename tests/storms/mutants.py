"""Broken files by number: the same seed and number give the same bytes, in every process.

``python -m tests.storms.mutants --seed S --count N --out DIR`` writes them, ``--first K`` from another number on.
Each has a SOPInstanceUID of its own, some a study and a patient of their own, so that they are not one conflict.
"""

from __future__ import annotations

import argparse
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import uid as u

from mammoscan.synthetic.dicom import file_bytes, uid
from tests.storms import bases

ITEM, DELIMITER, ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0", b"\xfe\xff\x0d\xe0\0\0\0\0"
UNDEFINED = b"\xff\xff\xff\xff"
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_VRS = [vr.encode() for vr in "AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN "
        "UR US UT UV".split()]  # fmt: skip
_ODD_VRS = [b"  ", b"\0\0", b"??", b"ZZ", b"ox", b"\xff\xff", b"U ", b"12"]
WHOLE_WAY = 0.08  # share of pictures of a breast: they cost a hundred times the others


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken file: what was done to it, and its bytes."""

    number: int
    family: str
    syntax: str
    content: bytes

    @property
    def name(self) -> str:
        """Its path below the archive."""
        return f"{self.number // 500:03d}/{self.number:06d}-{self.family}-{self.syntax.rsplit('.', 1)[-1]}.dcm"


@dataclass(slots=True)
class Parts:
    """A file in pieces that can be changed apart: what a mutation works on.

    head: preamble and file meta information. before: the elements before the pixels. mark: the pixel element's
    tag, VR and length. value: what follows to the end of the file, before it is deflated.
    """

    syntax: str
    head: bytes
    before: bytes
    mark: bytes
    value: bytes

    @classmethod
    def of(cls, ds: pydicom.Dataset) -> Parts:
        """Of a data set whose last element is its pixels."""
        syntax, content = str(ds.file_meta.TransferSyntaxUID), file_bytes(ds)
        end = 144 + struct.unpack_from("<I", content, 140)[0]
        body = content[end:]
        if syntax == u.DeflatedExplicitVRLittleEndian:
            body = zlib.decompress(body, -zlib.MAX_WBITS)
        *_, last = elements(body, syntax)
        return cls(syntax, content[:end], body[: last.tag], body[last.tag : last.value], body[last.value :])

    def file(self) -> bytes:
        """The file that they make."""
        body = self.before + self.mark + self.value
        return self.head + (_deflate(body) if self.syntax == u.DeflatedExplicitVRLittleEndian else body)

    @property
    def encapsulated(self) -> bool:
        """Whether the pixels are fragments."""
        return self.syntax not in bases.NATIVE

    @property
    def little(self) -> bool:
        """Whether numbers begin with their low byte."""
        return self.syntax != u.ExplicitVRBigEndian

    def fragments(self) -> list[bytes]:
        """The offset table and the fragments of encapsulated pixels."""
        found, at = [], 0
        while self.value[at : at + 4] == ITEM:
            (length,) = struct.unpack_from("<I", self.value, at + 4)
            found.append(self.value[at + 8 : at + 8 + length])
            at += 8 + length
        return found

    def codestream(self) -> bytes:
        """The bytes that hold the picture."""
        return b"".join(self.fragments()[1:]) if self.encapsulated else self.value

    def put(self, codestream: bytes, *, even: bool = True) -> None:
        """Put another codestream in the place of this one."""
        if even and len(codestream) % 2:
            codestream += b"\0"
        self.value = items([b"", codestream]) + DELIMITER if self.encapsulated else codestream


@dataclass(frozen=True, slots=True)
class Element:
    """Where a top-level element lies in a body: its tag, its VR (-1 in implicit VR), its length and its value."""

    tag: int
    vr: int
    length: int
    size: int  # bytes of the length
    value: int
    end: int


def elements(body: bytes, syntax: str) -> Iterator[Element]:
    """The top-level elements of a whole body; the pixels, the last, count to its end."""
    order = ">" if syntax == u.ExplicitVRBigEndian else "<"
    implicit = syntax == u.ImplicitVRLittleEndian
    at = 0
    while at < len(body):
        (group,) = struct.unpack_from(order + "H", body, at)
        vr, length_at, size = (-1, at + 4, 4) if implicit else (at + 4, at + 6, 2)
        if not implicit and body[vr : vr + 2] in _LONG:
            length_at, size = at + 8, 4
        (length,) = struct.unpack_from(order + "HI"[size == 4], body, length_at)
        value = length_at + size
        end = len(body) if group == 0x7FE0 else value + length
        yield Element(at, vr, length_at, size, value, end)
        at = end


def items(parts: list[bytes]) -> bytes:
    """Items with their lengths."""
    return b"".join(ITEM + struct.pack("<I", len(part)) + part for part in parts)


def _deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(body) + packer.flush()
    return packed + b"\0" * (len(packed) % 2)


# --------------------------------------------------------------------------- what is done to any bytes


def _noise(rng: random.Random, content: bytes, low: int, high: int, most: int = 8) -> bytes:
    """Some bytes between two places are others."""
    out = bytearray(content)
    for _ in range(rng.randint(1, most)):
        out[rng.randrange(low, max(high, low + 1))] = rng.choice((0, 1, 0x20, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(out)


def bit_flips(rng: random.Random, parts: Parts) -> bytes:
    """Bits anywhere in the file."""
    out = bytearray(parts.file())
    for _ in range(rng.choice((1, 2, 8, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def zero_run(rng: random.Random, parts: Parts) -> bytes:
    """A lost block of a disk, or a hole of a transfer."""
    content = parts.file()
    length = min(rng.choice((4, 64, 512, 4096)), len(content))
    at = rng.randrange(len(content) - length + 1)
    return content[:at] + rng.choice((b"\0", b"\xff")) * length + content[at + length :]


def inserted(rng: random.Random, parts: Parts) -> bytes:
    """Bytes too many."""
    content = parts.file()
    at = rng.randrange(len(content) if rng.random() < 0.5 else len(parts.head) + len(parts.before))
    return content[:at] + rng.randbytes(rng.choice((1, 2, 7, 512))) + content[at:]


def deleted(rng: random.Random, parts: Parts) -> bytes:
    """Bytes too few."""
    content = parts.file()
    at = rng.randrange(len(content) if rng.random() < 0.5 else len(parts.head) + len(parts.before))
    return content[:at] + content[at + rng.choice((1, 2, 7, 512)) :]


def truncated(rng: random.Random, parts: Parts) -> bytes:
    """A broken transfer."""
    content = parts.file()
    ends = (rng.randrange(len(content)), len(parts.head) + len(parts.before) + rng.randint(-40, 40),
            len(content) - rng.randint(1, 20), rng.randrange(200))  # fmt: skip
    return content[: rng.choice(ends)]


# --------------------------------------------------------------------------- headers


def header_bytes(rng: random.Random, parts: Parts) -> bytes:
    """Bytes of the header."""
    if rng.random() < 0.2:
        parts.head = _noise(rng, parts.head, 128, len(parts.head), 3)
    else:
        parts.before = _noise(rng, parts.before, 0, len(parts.before))
    return parts.file()


def header_lengths(rng: random.Random, parts: Parts) -> bytes:
    """Lengths that are not those of their values."""
    found = list(elements(parts.before, parts.syntax))
    out = bytearray(parts.before)
    order = "<" if parts.little else ">"
    for _ in range(rng.randint(1, 2)):
        e = rng.choice(found)
        here = e.end - e.value
        most = 0xFFFFFFFF if e.size == 4 else 0xFFFF
        length = rng.choice(
            (0, 1, here + 1, here - 1, here + 2, here * 2, most, most - 1, most // 2, rng.randrange(most))
        )
        struct.pack_into(order + "HI"[e.size == 4], out, e.length, max(0, min(length, most)))
    parts.before = bytes(out)
    return parts.file()


def header_vrs(rng: random.Random, parts: Parts) -> bytes:
    """VRs that are others, or none; in implicit VR, tags."""
    found = list(elements(parts.before, parts.syntax))
    out = bytearray(parts.before)
    for _ in range(rng.randint(1, 3)):
        e = rng.choice(found)
        if e.vr < 0:
            out[e.tag + rng.randrange(4)] = rng.randrange(256)
        else:
            out[e.vr : e.vr + 2] = rng.choice(_VRS + _ODD_VRS)
    parts.before = bytes(out)
    return parts.file()


def header_values(rng: random.Random, parts: Parts) -> bytes:
    """Values that their VR does not allow, of any length."""
    found = list(elements(parts.before, parts.syntax))
    order = "<" if parts.little else ">"
    for e in sorted(rng.sample(found, rng.randint(1, 3)), key=lambda e: -e.tag):
        value = rng.choice((
            b"", b"\0" * (e.end - e.value), rng.randbytes(max(1, e.end - e.value)), b"\\" * 6, b"-1", b"1e400", b"NaN",
            b"0", b"99999999999999999999", "äöü日本\u202e".encode(), b"\x1b$B", b"x" * 300, b"=cmd|' /C calc'!A0", b"\r\n\t\x0c",
            b"^^^^^^^=====", b"1.2.3.4\0", b"\xff\xfe" * 5,
        ))  # fmt: skip
        value += b" " * (len(value) % 2)
        length = struct.pack(order + "HI"[e.size == 4], len(value))
        parts.before = parts.before[: e.length] + length + value + parts.before[e.end :]
    return parts.file()


def header_order(rng: random.Random, parts: Parts) -> bytes:
    """Elements twice, missing, or in another order."""
    found = [parts.before[e.tag : e.end] for e in elements(parts.before, parts.syntax)]
    for _ in range(rng.randint(1, 3)):
        at, other = rng.randrange(len(found)), rng.randrange(len(found))
        what = rng.randrange(3)
        if what == 0:
            found.insert(other, found[at])
        elif what == 1 and len(found) > 1:
            del found[at]
        else:
            found[at], found[other] = found[other], found[at]
    parts.before = b"".join(found)
    return parts.file()


_NUMBERS = {
    "Rows": (0, 1, 255, 319, 321, 640, 65535), "Columns": (0, 1, 255, 257, 512, 65535), "BitsAllocated": (0, 1, 8, 12, 16, 32),
    "BitsStored": (0, 1, 7, 11, 13, 16, 17, 255), "HighBit": (0, 3, 12, 15, 255), "PixelRepresentation": (0, 1, 2, 65535),
    "SamplesPerPixel": (0, 2, 3, 4, 65535), "PlanarConfiguration": (0, 1, 2),
}  # fmt: skip
_WORDS = {
    "NumberOfFrames": ("0", "-1", "2", "1000000"), "PhotometricInterpretation": ("MONOCHROME1", "RGB", "PALETTE COLOR", "", "?"),
    "WindowWidth": ("0", "-5", "1e-30", "1e30"), "WindowCenter": ("1e30", "-1e30"), "VOILUTFunction": ("SIGMOID", "LINEAR_EXACT", "?"),
    "RescaleSlope": ("0", "-1", "1e30", "1e-30"), "RescaleIntercept": ("1e30", "-5000"), "Modality": ("CR", "MG\\MG", ""),
    "ImagerPixelSpacing": ("0\\0", "-1\\1", "1e-9\\1", "0.1", "5\\0.01"), "PatientOrientation": ("", "X\\Y", "A\\R\\F"),
    "SpecificCharacterSet": ("ISO_IR 192", "ISO 2022 IR 87", "nonsense", "\\ISO 2022 IR 149"), "PatientAge": ("999Y", "-01Y", "050"),
    "StudyDate": ("00000000", "20259999", "2020.01.01", "1"), "ImageLaterality": ("B", "U", "x"), "ViewPosition": ("", "?", "LM"),
    "PatientBirthDate": ("99991231", "0"), "PatientSex": ("X", "FEMALE"), "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.7", "1.2"),
}  # fmt: skip


def attributes(rng: random.Random, ds: pydicom.Dataset) -> bytes:
    """Values that are well formed and contradict each other or the pixels."""
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.5:
            keyword = rng.choice(list(_NUMBERS))
            ds[keyword] = pydicom.DataElement(keyword, "US", rng.choice(_NUMBERS[keyword]))
        elif rng.random() < 0.85:
            keyword = rng.choice(list(_WORDS))
            vr = pydicom.datadict.dictionary_VR(keyword)
            text = rng.choice(_WORDS[keyword])
            ds[keyword] = pydicom.DataElement(keyword, vr, text, validation_mode=0)
        else:
            item = pydicom.Dataset()
            size = rng.choice((0, 1, 2, 255, 256, 4096, 65535))
            item.add_new("LUTDescriptor", "US", [size, rng.choice((0, 1, 65535)), rng.choice((0, 1, 8, 12, 16, 255))])
            item.add_new("LUTData", "OW", rng.randbytes(2 * rng.choice((0, 1, 128, 256, 4096))))
            keyword = rng.choice(("VOILUTSequence", "ModalityLUTSequence"))
            ds[keyword] = pydicom.DataElement(keyword, "SQ", [item] * rng.randint(0, 2))
    return file_bytes(ds)


# --------------------------------------------------------------------------- pixels


def fragments(rng: random.Random, parts: Parts) -> bytes:
    """Offset tables, fragments, delimiters that do not fit; in native syntaxes the length of the pixels."""
    if not parts.encapsulated:
        at = len(parts.mark) - 4
        length = rng.choice(
            (0, 1, len(parts.value) - 2, len(parts.value) + 2, 0x7FFFFFFF, 0xFFFFFFFF, rng.randrange(2**32))
        )
        parts.mark = parts.mark[:at] + struct.pack("<I" if parts.little else ">I", length)
        return parts.file()
    stream = parts.codestream()
    cut = rng.randrange(1, len(stream))
    table = struct.pack("<I", 0)
    parts.value = rng.choice((
        lambda: items([table, stream]) + DELIMITER,
        lambda: items([struct.pack("<II", 0, rng.randrange(2**32)), stream]) + DELIMITER,
        lambda: items([rng.randbytes(rng.randrange(40)), stream]) + DELIMITER,
        lambda: items([b"", stream]),
        lambda: items([b"", stream]) + DELIMITER * 3,
        lambda: items([b"", stream[:cut], stream[cut:]]) + DELIMITER,
        lambda: items([b"", b"", stream, b""]) + DELIMITER,
        lambda: items([b"", stream[cut:], stream[:cut]]) + DELIMITER,
        lambda: items([b"", *[stream[n : n + 61] for n in range(0, len(stream), 61)]]) + DELIMITER,
        lambda: items([b"", stream, stream]) + DELIMITER,
        lambda: items([b"", stream + b"\0" * rng.choice((1, 64, 5000))]) + DELIMITER,
        lambda: items([b""]) + ITEM + struct.pack("<I", rng.randrange(2**32)) + stream + DELIMITER,
        lambda: items([b""]) + ITEM + UNDEFINED + stream + ITEM_END + DELIMITER,
        lambda: items([stream]) + DELIMITER,
        lambda: stream,
        lambda: DELIMITER,
        lambda: b"",
        lambda: items([b""]) + DELIMITER,
    ))()  # fmt: skip
    return parts.file()


def codestream_head(rng: random.Random, parts: Parts) -> bytes:
    """The first bytes of a codestream: sizes, depths, tables."""
    stream = parts.codestream()
    parts.put(_noise(rng, stream, 0, min(len(stream), rng.choice((16, 64, 200))), 4))
    return parts.file()


def codestream_body(rng: random.Random, parts: Parts) -> bytes:
    """Any bytes of a codestream."""
    stream = parts.codestream()
    parts.put(_noise(rng, stream, 0, len(stream), rng.choice((1, 8, 200))))
    return parts.file()


def codestream_cut(rng: random.Random, parts: Parts) -> bytes:
    """A codestream without its end, its begin or a piece of its middle."""
    stream = parts.codestream()
    at, other = sorted(rng.randrange(1, len(stream)) for _ in range(2))
    parts.put(rng.choice((stream[:at], stream[at:], stream[:at] + stream[other:], stream[:at] + stream[:other])))
    return parts.file()


def codestream_marks(rng: random.Random, parts: Parts) -> bytes:
    """Marks of JPEG and its kin where none belong."""
    stream = bytearray(parts.codestream())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(stream) - 1)
        stream[at : at + 2] = bytes(
            (0xFF, rng.choice((0x4F, 0x51, 0x90, 0x93, 0xC0, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDD, 0xF7)))
        )
    parts.put(bytes(stream))
    return parts.file()


def foreign_codestream(rng: random.Random, parts: Parts) -> bytes:
    """The picture in another syntax than the file says."""
    other = Parts.of(bases.base(rng.choice(bases.SYNTAXES), "grain", rng.randrange(4)))
    parts.put(other.codestream())
    return parts.file()


# --------------------------------------------------------------------------- structure


def swapped_syntax(rng: random.Random, parts: Parts) -> bytes:
    """File meta information that names another transfer syntax than the data have, or none."""
    mine = parts.syntax.encode() + b"\0" * (len(parts.syntax) % 2)
    other = rng.choice((*bases.SYNTAXES, "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.95", "1.2.3", "")).encode()
    other += b"\0" * (len(other) % 2)
    at = parts.head.rindex(b"\x02\x00\x10\x00UI")
    place = at + 8 + len(mine)
    body = parts.file()[len(parts.head) :]
    head = parts.head[:at] + b"\x02\x00\x10\x00UI" + struct.pack("<H", len(other)) + other + parts.head[place:]
    (length,) = struct.unpack_from("<I", head, 140)
    return head[:140] + struct.pack("<I", length + len(other) - len(mine)) + head[144:] + body


def nested(rng: random.Random, parts: Parts) -> bytes:
    """Sequences in sequences, deep or wide, of known and unknown length, closed or not."""
    implicit, order = parts.syntax == u.ImplicitVRLittleEndian, "<" if parts.little else ">"
    tag = struct.pack(order + "HH", 0x0040, 0x0275)
    item, item_end, end = (struct.pack(order + "HH", 0xFFFE, e) for e in (0xE000, 0xE00D, 0xE0DD))
    mark = tag if implicit else tag + b"SQ\0\0"
    depth = rng.choice((3, 40, 300, 1200, 20000))
    zero = b"\0" * 4
    what = rng.randrange(4)
    if what == 0:
        bomb = (mark + UNDEFINED + item + UNDEFINED) * depth + (item_end + zero + end + zero) * depth
    elif what == 1:
        bomb = (mark + UNDEFINED + item + UNDEFINED) * depth
    elif what == 2:
        bomb = b""
        for _ in range(min(depth, 2000)):
            bomb = item + struct.pack(order + "I", len(bomb)) + bomb
            bomb = mark + struct.pack(order + "I", len(bomb)) + bomb
    else:
        inside = (item + zero) * depth
        bomb = mark + struct.pack(order + "I", len(inside)) + inside
    found = list(elements(parts.before, parts.syntax))
    at = rng.choice(found).tag
    parts.before = parts.before[:at] + bomb + parts.before[at:]
    return parts.file()


def bombs(rng: random.Random, parts: Parts) -> bytes:
    """Deflated parts that grow without measure, are cut, carry a zlib header or something behind them."""
    if parts.syntax != u.DeflatedExplicitVRLittleEndian:
        parts = Parts.of(_named(bases.base(u.DeflatedExplicitVRLittleEndian, "grain", 0), parts))
    body = parts.before + parts.mark + parts.value
    private = struct.pack("<HH", 0x0009, 0x1002) + b"OB\0\0"
    at = next(e.tag for e in elements(parts.before, parts.syntax) if parts.before[e.tag : e.tag + 2] > b"\x09\x00")
    size = rng.choice((1 << 20, 70 << 20))
    return parts.head + rng.choice((
        lambda: _deflated_zeros(body[:at] + private + struct.pack("<I", size), size, body[at:]),
        lambda: _deflated_zeros(body, size, b""),
        lambda: _deflate(body)[: rng.randrange(len(_deflate(body)))],
        lambda: zlib.compress(body),
        lambda: _deflate(body) + rng.randbytes(100),
        lambda: _noise(rng, _deflate(body), 0, 200),
        lambda: _deflate(_deflate(body)),
        lambda: b"",
    ))()  # fmt: skip


def _deflated_zeros(begin: bytes, size: int, end: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    out = [packer.compress(begin)]
    block = b"\0" * (1 << 20)
    out += [packer.compress(block) for _ in range(size >> 20)]
    return b"".join((*out, packer.compress(end), packer.flush()))


def _named(ds: pydicom.Dataset, parts: Parts) -> pydicom.Dataset:
    """The other data set under the identity of the one that the parts are of."""
    import io

    own = pydicom.dcmread(io.BytesIO(parts.file()), stop_before_pixels=True)
    for keyword in _IDENTITY:
        setattr(ds, keyword, own[keyword].value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


# --------------------------------------------------------------------------- by number

Family = Callable[[random.Random, Parts], bytes]
_IDENTITY = ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
# What may damage whose image it is stands in small studies, so that it takes few others with it.
HEADERS: tuple[Family, ...] = (
    header_bytes, header_lengths, header_vrs, header_values, header_order, bit_flips, zero_run, inserted, deleted, truncated,
)  # fmt: skip
PIXELS: tuple[Family, ...] = (
    fragments, codestream_head, codestream_body, codestream_cut, codestream_marks, foreign_codestream, swapped_syntax, nested,
    bombs,
)  # fmt: skip
FAMILIES = (*(f.__name__ for f in (*HEADERS, *PIXELS)), attributes.__name__)
_BY_NAME = {f.__name__: f for f in (*HEADERS, *PIXELS)}
_SMALL = {f.__name__ for f in HEADERS} | {attributes.__name__}


def mutant(seed: int, number: int) -> Mutant:
    """The broken file of a number: families by turns, each with every transfer syntax."""
    rng = random.Random(f"{seed} {number}")
    family = FAMILIES[number % len(FAMILIES)]
    syntax = str(bases.SYNTAXES[number // len(FAMILIES) % len(bases.SYNTAXES)])
    ds = bases.base(syntax, "breast" if rng.random() < WHOLE_WAY else "grain", rng.randrange(4))
    study = f"{number // 32} headers" if family in _SMALL else f"{number // 200} pixels"
    if number % 40 == 7:
        study = f"{number} alone"
    ds.PatientID, ds.PatientName = f"STORM-{seed}-{study}".upper(), f"Storm^{study}"
    ds.StudyInstanceUID, ds.StudyID = uid("storm study", str(seed), study), "1"
    ds.SeriesInstanceUID = uid("storm series", str(seed), study)
    ds.SOPInstanceUID = uid("storm", str(seed), str(number))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    content = attributes(rng, ds) if family == "attributes" else _BY_NAME[family](rng, Parts.of(ds))
    return Mutant(number, family, syntax, content)


def write(seed: int, numbers: range, out: Path) -> list[Mutant]:
    """Write mutants below a folder; those that were written, without their bytes."""
    written = []
    for number in numbers:
        made = mutant(seed, number)
        path = out / made.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.content)
        written.append(Mutant(number, made.family, made.syntax, b""))
    return written


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    written = write(arguments.seed, range(arguments.first, arguments.first + arguments.count), arguments.out)
    print(f"{len(written)} files below {arguments.out}")


if __name__ == "__main__":
    main()
