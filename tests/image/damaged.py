"""Damaged streams of JPEG Lossless and JPEG 2000 by number, and what the decoders make of them.

``python -m tests.image.damaged --coding lossless --first K --count N --seconds S FILE`` adds lines of JSON to FILE, three a stream: its number
and kind; what the fast path says ("not asked", "none", "read"); what gdcm says ("refused", "read", "not asked") and whether
the values are the same. Each is written before the next is tried: the last line of a process that died says by what.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import json
import random
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder

from mammoscan.image import jpeg2000, lossless
from mammoscan.image.codestream import Codestream, Coding, codestream
from mammoscan.synthetic import jpeg_lossless

ROOT = Path(__file__).parents[2]
ROWS, COLUMNS = 23, 37
MEMORY = 4 << 30  # bytes that a decoder may ask for
BITS = (8, 10, 12, 16)
_EVERY_MARKER = [bytes((0xFF, n)) for n in range(256)]


def picture(bits: int, which: int, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Grain on a slope, over the whole range of the bits; 8 bits in bytes, others in words."""
    rng = np.random.default_rng(which)
    slope = np.linspace(0, (1 << bits) - 1, rows * columns).reshape(rows, columns)
    grain = rng.normal(0, (1 << bits) / rng.choice([4, 64, 1024]), slope.shape)
    return np.clip(slope + grain, 0, (1 << bits) - 1).astype(np.uint8 if bits == 8 else np.uint16)


@functools.cache
def whole(which: int, coding: Coding) -> bytes:
    """A whole stream. which: of bits, predictor and encoder."""
    bits, predictor = BITS[which % 4], which // 4 % 8
    pixels = picture(bits, which)
    if coding is Coding.JPEG_2000:
        lossy = {"reversible": False, "level": 45} if predictor % 2 else {"reversible": True}
        return imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", bitspersample=bits, **lossy)
    if predictor == 0:
        return jpeg_lossless.encode(pixels, bits)
    return imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=bits)


def _scan_at(content: bytes) -> int:
    """Where the code begins."""
    if content.startswith(b"\xff\x4f"):
        return content.index(b"\xff\x93") + 2
    at = content.index(b"\xff\xda")
    return at + 2 + int(struct.unpack_from(">H", content, at + 2)[0])


def _put(content: bytes, at: int, new: bytes, instead_of: int = 0) -> bytes:
    return content[:at] + new + content[at + instead_of :]


def flip(rng: random.Random, content: bytes) -> bytes:
    """One to four bytes anywhere."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        content = _put(content, rng.randrange(2, len(content)), bytes([rng.randrange(256)]), 1)
    return content


def flip_code(rng: random.Random, content: bytes) -> bytes:
    """One bit of the code."""
    at = rng.randrange(_scan_at(content), len(content) - 2)
    return _put(content, at, bytes([content[at] ^ 1 << rng.randrange(8)]), 1)


def flip_head(rng: random.Random, content: bytes) -> bytes:
    """One byte before the code."""
    return _put(
        content,
        rng.randrange(2, _scan_at(content)),
        bytes([rng.choice([0, 1, 2, 3, 8, 16, 17, 255, rng.randrange(256)])]),
        1,
    )


def cut(rng: random.Random, content: bytes) -> bytes:
    """Cut in its code, with an end mark behind."""
    return content[: rng.randrange(_scan_at(content), len(content) - 2)] + b"\xff\xd9"


def cut_end(rng: random.Random, content: bytes) -> bytes:
    """The last bytes of its code are gone."""
    return content[: -2 - rng.randint(1, 3)] + b"\xff\xd9"


def insert(rng: random.Random, content: bytes) -> bytes:
    """Bytes put into it."""
    return _put(content, rng.randrange(2, len(content)), rng.randbytes(rng.choice([1, 1, 2, 4, 300])))


def append(rng: random.Random, content: bytes) -> bytes:
    """Bytes behind its code."""
    return _put(
        content, len(content) - 2, bytes(rng.choice([0, 1, 127, 254]) for _ in range(rng.choice([1, 2, 3, 50])))
    )


def drop(rng: random.Random, content: bytes) -> bytes:
    """Bytes taken out of its code."""
    at = rng.randrange(_scan_at(content), len(content) - 2)
    return _put(content, at, b"", rng.choice([1, 1, 2, 4, 100])).removesuffix(b"\xff\xd9") + b"\xff\xd9"


def swap(rng: random.Random, content: bytes) -> bytes:
    """Two parts of its code change places."""
    begin, end = _scan_at(content), len(content) - 2
    a, b, c = sorted(rng.randrange(begin, end) for _ in range(3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def zeros(rng: random.Random, content: bytes) -> bytes:
    """A stretch of its code was never written."""
    at = rng.randrange(_scan_at(content), len(content) - 3)
    size = min(rng.choice([1, 4, 64, 512]), len(content) - 2 - at)
    return _put(content, at, rng.choice([b"\0", b"\x55", b"\xfe"]) * size, size)


def marker(rng: random.Random, content: bytes) -> bytes:
    """A marker within its code, or one changed into another."""
    if rng.random() < 0.5:
        return _put(content, rng.randrange(_scan_at(content), len(content) - 1), rng.choice(_EVERY_MARKER))
    at = content.index(rng.choice([b"\xff\xc3", b"\xff\xc4", b"\xff\xda"]))
    return _put(content, at, rng.choice(_EVERY_MARKER), 2)


def segment(rng: random.Random, content: bytes) -> bytes:
    """A segment more than it should have: another frame, tables, a restart interval, a comment."""
    at = content.index(rng.choice([b"\xff\xc3", b"\xff\xc4", b"\xff\xda"]))
    kind = rng.choice([0xC0, 0xC1, 0xC3, 0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDF, 0xE0, 0xEE, 0xFE])
    if kind == 0xDD:
        body = struct.pack(">H", rng.choice([0, 1, COLUMNS, 2 * COLUMNS, 65535]))
    elif rng.random() < 0.5 and (other := content.find(bytes((0xFF, kind)))) > 0:
        body = content[other + 4 : other + 2 + struct.unpack_from(">H", content, other + 2)[0]]
    else:
        body = rng.randbytes(rng.choice([0, 2, 9, 18, 30]))
    return _put(content, at, struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body)


def frame(rng: random.Random, content: bytes) -> bytes:
    """Another precision, size or number of components."""
    at = content.index(b"\xff\xc3") + 4
    precision = rng.choice([0, 1, 2, 7, 8, 9, 12, 13, 16, 17, 32, content[at]])
    rows, columns = (rng.choice([n, n, n + 1, n - 1, 0, 65535, 65500]) for n in (ROWS, COLUMNS))
    return _put(content, at, struct.pack(">BHHB", precision, rows, columns, rng.choice([1, 1, 1, 0, 2, 3])), 6)


def scan(rng: random.Random, content: bytes) -> bytes:
    """Another predictor, table or point transform."""
    at = content.index(b"\xff\xda") + 4 + rng.randrange(6)
    return _put(content, at, bytes([rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 63, 255])]), 1)


def table(rng: random.Random, content: bytes) -> bytes:
    """Another count or category in the Huffman table."""
    at = content.index(b"\xff\xc4") + 4
    (length,) = struct.unpack_from(">H", content, at - 2)
    return _put(content, at + rng.randrange(length - 2), bytes([rng.choice([0, 1, 2, 3, 16, 17, 31, 255])]), 1)


def none(_: random.Random, content: bytes) -> bytes:
    """As it was."""
    return content


Damage = Callable[[random.Random, bytes], bytes]
_ANYWHERE: tuple[Damage, ...] = (
    flip, flip_code, flip_head, cut, cut_end, insert, append, drop, swap, zeros,
)  # fmt: skip
KINDS: dict[Coding, tuple[Damage, ...]] = {
    Coding.LOSSLESS: (*_ANYWHERE, marker, segment, frame, scan, table, none),
    Coding.JPEG_2000: (*_ANYWHERE, none),
}
FAST = {Coding.LOSSLESS: lossless.values, Coding.JPEG_2000: jpeg2000.values}


def stream(number: int, coding: Coding) -> tuple[str, bytes]:
    """A kind of damage and what it made: the same in every process."""
    rng = random.Random(number)
    kind = KINDS[coding][number % len(KINDS[coding])]
    return kind.__name__, kind(rng, whole(rng.randrange(32), coding))


def usable(found: Codestream | None, coding: Coding) -> bool:
    """Whether a stream gets as far as the decoders."""
    return (
        found is not None
        and found.coding is coding
        and found.whole
        and (found.rows, found.columns, found.components) == (ROWS, COLUMNS, 1)
        and found.precision <= 16
    )


def by_gdcm(content: bytes, precision: int, coding: Coding = Coding.LOSSLESS) -> np.ndarray | None:
    """Its values by gdcm, None where it refuses."""
    try:
        array, _ = get_decoder(coding.syntaxes[0]).as_array(
            encapsulate([content]), index=0, raw=True, decoding_plugin="gdcm", rows=ROWS, columns=COLUMNS,
            samples_per_pixel=1, number_of_frames=1, photometric_interpretation="MONOCHROME2", pixel_keyword="PixelData",
            bits_allocated=8 if precision <= 8 else 16, bits_stored=precision, pixel_representation=0,
        )  # fmt: skip
    except Exception:  # of many kinds, none of them documented
        return None
    return array if array.shape == (ROWS, COLUMNS) else None


def verdicts(number: int, coding: Coding) -> Iterator[dict[str, object]]:
    """What becomes of a stream, step by step."""
    kind, content = stream(number, coding)
    yield {"number": number, "kind": kind}
    found = codestream(content)
    if found is None or not usable(found, coding):
        yield {"fast": "not asked"}
        yield {"gdcm": "not asked"}
        return
    fast = FAST[coding](found)
    yield {"fast": "none" if fast is None else "read", "precision": found.precision}
    reference = by_gdcm(found.content, found.precision, coding)
    same = fast is not None and reference is not None and bool(np.array_equal(fast, reference))
    yield {"gdcm": "refused" if reference is None else "read", "same": same}


def tried(folder: Path, coding: Coding, first: int, count: int) -> list[dict[str, object]]:
    """What became of streams, each tried in a process that may die of it: "died" then says with what status."""
    streams: dict[int, dict[str, object]] = {}
    end = first + count
    for attempt in range(count):
        file = folder / f"{attempt}.jsonl"
        command = [sys.executable, "-m", __name__, "--coding", coding.name.lower(), str(file)]
        command += ["--first", str(first), "--count", str(end - first)]
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, errors="replace")
        for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            number = line.get("number", first)
            first = max(first, number)
            streams.setdefault(number, {}).update(line)
        if done.returncode == 0:
            break
        streams[first] |= {"died": done.returncode, "last words": done.stderr[-2000:]}
        first += 1
    return list(streams.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--coding", choices=[coding.name.lower() for coding in KINDS], default="lossless")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=20, help="a stream")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with arguments.file.open("a", encoding="utf-8") as file:
        for number in range(arguments.first, arguments.first + arguments.count):
            faulthandler.dump_traceback_later(arguments.seconds, exit=True)  # of a decoder that loops
            for line in verdicts(number, Coding[arguments.coding.upper()]):
                file.write(json.dumps(line) + "\n")
                file.flush()
            faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
