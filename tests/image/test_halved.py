"""Half the resolution: the same to the bit whether a stream holds it or it is computed, and where it may be taken."""

import io
import time
from collections import Counter

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from mammoscan.archive.header import read_header
from mammoscan.core import domain
from mammoscan.core.config import FULL, HALF, SWITCHABLE, AnalysisConfig
from mammoscan.core.domain import Analysed, Density, Laterality, RegionKind, SourceFile, View
from mammoscan.core.errors import InputError
from mammoscan.image import jpeg2000, pixels, preprocess
from mammoscan.image.analyse import LARGE_ROWS, analyse, drawn
from mammoscan.image.codestream import codestream
from mammoscan.image.crops import CropGeometry
from mammoscan.image.halved import halved
from mammoscan.synthetic.archive import stored_values
from mammoscan.synthetic.dicom import Shown, file_bytes, mammogram_dataset
from mammoscan.synthetic.phantom import Lesion, Spec, render
from tests.image import damaged
from tests.image.test_preprocess import header as plain_header
from tests.report import sources

CUT = CropGeometry(160, 1.6)
SYNTAXES = (ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)
WINDOW = ((2048, 4096),)
FINE = 0.06  # mm


def _encoded(values, bits, **options):
    options = {"reversible": True, "resolutions": 3, **options}
    return codestream(imagecodecs.jpeg2k_encode(values, codecformat="J2K", bitspersample=bits, **options))


@pytest.mark.parametrize("shape", [(256, 300), (257, 301), (130, 129), (64, 131)])
@pytest.mark.parametrize("bits", [1, 7, 8, 9, 12, 13, 14, 15, 16])
def test_the_low_band_is_what_a_lossless_stream_holds(bits, shape):
    values = np.random.default_rng(bits).integers(0, 1 << bits, shape).astype(np.uint8 if bits <= 8 else np.uint16)
    values[: shape[0] // 2] //= 2  # noise alone overshoots nearly everywhere
    held = jpeg2000.low_band(_encoded(values, bits))
    assert held.dtype == values.dtype
    assert np.array_equal(held, halved(values, bits))


@settings(deadline=None, max_examples=60)
@given(
    values=arrays.arrays(np.uint16, st.tuples(st.integers(16, 150), st.integers(16, 90)), elements=st.integers(0, 4095))
)
def test_any_picture_has_the_low_band_that_its_stream_holds(values):
    assert np.array_equal(jpeg2000.low_band(_encoded(values, 12)), halved(values, 12))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 1), (2, 3), (131, 2)])
def test_what_is_even_stays_as_it_is_and_the_smallest_pictures_have_a_half(shape):
    low = halved(np.full(shape, 1234, np.uint16), 12)
    assert low.shape == ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    assert (low == 1234).all()


@pytest.mark.parametrize("tile", [(64, 64), (300, 128)])
def test_several_tiles_are_left_to_the_whole_since_each_ends_a_low_band_of_its_own(tile):
    values, content = damaged.picture(8, 3, 256, 300), io.BytesIO()
    Image.fromarray(values).save(content, "JPEG2000", tile_size=tile, irreversible=False, no_jp2=True)
    found = codestream(content.getvalue())
    assert np.array_equal(jpeg2000.values(found), values)
    assert jpeg2000.low_band(found) is None


@pytest.mark.parametrize("options", [{"reversible": False, "level": 45}, {"resolutions": 1}])
def test_streams_whose_low_band_is_another_are_left_to_the_whole(options):
    found = _encoded(damaged.picture(12, 3, 256, 300), 12, **options)
    assert jpeg2000.values(found) is not None
    assert jpeg2000.low_band(found) is None


@pytest.mark.parametrize("segment", [b"\xff\x53\x00\x09\x00\x00\x02\x04\x04\x00\x01", b"\xff\x5e\x00\x05\x00\x00\x01"])
@pytest.mark.parametrize("behind", [b"\xff\x5c", b"\xff\x93"])  # in the main header, and in that of the tile
def test_streams_that_code_parts_in_another_way_are_left_to_the_whole(segment, behind):
    content = _encoded(damaged.picture(12, 3, 256, 300), 12).content
    assert jpeg2000.low_band(codestream(content)) is not None
    at = content.index(behind)
    assert jpeg2000.low_band(codestream(content[:at] + segment + content[at:])) is None


def _damages(content, rng):
    """Streams that are cut, lack a part, have a part too much, by name."""
    for _ in range(25):
        at, size = int(rng.integers(120, len(content) - 400)), int(rng.integers(1, 300))
        yield "cut", content[:at] + b"\xff\xd9"
        yield "lacking", content[:at] + content[at + size :]
        yield "more", content[:at] + rng.integers(0, 255, size).astype(np.uint8).tobytes() + content[at:]
        yield "other", content[:at] + rng.integers(0, 255, size).astype(np.uint8).tobytes() + content[at + size :]


def test_what_the_whole_decode_refuses_is_refused_at_half_the_resolution_too():
    """Damage may be in what is not decoded: the packets are walked through none the less."""
    whole = _encoded(damaged.picture(12, 5, 400, 300), 12).content
    said = Counter()
    for kind, content in _damages(whole, np.random.default_rng(1)):
        found = codestream(content)
        values, low = jpeg2000.values(found), jpeg2000.low_band(found)
        said[kind, values is not None, low is not None] += 1
    assert said["cut", False, False] == said["lacking", False, False] == said["more", False, False] == 25
    assert [key for key in said if key[1:] == (False, True)] == []


def _phantom(*, rows=1700, columns=1380, side=Laterality.LEFT, kind=RegionKind.MASS):
    spec = Spec(side, View.CC, Density.B, (Lesion(kind, malignant=True, radius_mm=8.0),), rows, columns, patient=3)
    drawn_values, truth = render(spec, 5)
    return stored_values(drawn_values, Shown(bits=12)), truth


def _written(path, values, *, spacing=FINE, syntax=ExplicitVRLittleEndian, side=Laterality.LEFT, change=None, **shown):
    shown = Shown(**{"bits": 12, "window": WINDOW, **shown})
    ds = mammogram_dataset(
        values, laterality=side, view=View.CC, subject=sources.SUBJECT, shown=shown, spacing_mm=spacing,
        transfer_syntax=syntax,
    )  # fmt: skip
    if change is not None:
        change(ds)
    path.write_bytes(file_bytes(ds))
    status = path.stat()
    file = SourceFile(path, path.name, status.st_size, status.st_mtime_ns)
    return read_header(file, include=SWITCHABLE, settle_seconds=0, now=time.time())


def _read(header, **options):
    return pixels.read_image(header, max_pixels=10**8, **options)


def test_half_the_resolution_is_the_same_in_every_syntax(tmp_path):
    values = damaged.picture(12, 2, 301, 258)
    found = [_read(_written(tmp_path / f"{n}.dcm", values, syntax=s), half=True) for n, s in enumerate(SYNTAXES)]
    expected = np.clip((halved(values, 12) - 2047.5) / 4095 + 0.5, 0, 1)
    for image in found:
        assert image.step == 2
        assert image.source_shape == values.shape
        assert not image.padding.any()
        assert np.array_equal(image.pixels, found[0].pixels)
        assert np.abs(image.pixels - expected).max() < 1e-6


def _bits_above(ds):
    stored = np.frombuffer(ds.PixelData, np.uint16).copy()
    stored[5] |= 0x8000
    ds.PixelData = stored.tobytes()


def _raw(ds):
    ds.PresentationIntentType = "FOR PROCESSING"


@pytest.mark.parametrize(
    "options",
    [{"padding": 0}, {"signed": True, "rescale": (1, 2048)}, {"window": ()}, {"change": _raw}, {"change": _bits_above}],
    ids=["padding", "signed", "stretched", "raw", "bits above"],
)
def test_where_a_mixed_value_may_mean_something_else_all_is_read(tmp_path, options):
    values = damaged.picture(12, 2, 301, 258).astype(int) - (2048 if options.get("signed") else 0)
    header = _written(tmp_path / "a.dcm", values, **options)
    image = _read(header, half=True)
    assert image.step == 1
    assert np.array_equal(image.pixels, _read(header).pixels)
    assert image.pixels.shape == values.shape


def test_a_damaged_stream_is_refused_at_half_the_resolution_as_at_the_whole(tmp_path):
    def cut(ds):
        ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2] + b"\xff\xd9" + b"\xfe\xff\xdd\xe0\0\0\0\0"

    header = _written(tmp_path / "a.dcm", damaged.picture(12, 2, 301, 258), syntax=JPEG2000Lossless, change=cut)
    reasons = []
    for half in (False, True):
        with pytest.raises(InputError) as caught:
            _read(header, half=half)
        reasons.append((caught.value.reason, caught.value.detail))
    assert reasons[0] == reasons[1]


@pytest.mark.parametrize(("spacing", "step"), [(0.05, 2), (0.0625, 2), (0.063, 1), (0.1, 1)])
def test_half_the_resolution_is_taken_where_it_is_finer_than_what_the_network_is_shown(spacing, step):
    header = plain_header(4000, 3000, mm=(spacing, spacing))
    assert preprocess.half_will_do(header, CUT.finest_mm) == (step == 2)
    assert not preprocess.half_will_do(header, CropGeometry(480, 1.6).finest_mm)
    assert not preprocess.half_will_do(plain_header(4000, 3000, mm=(spacing, 0.1)), CUT.finest_mm)


@pytest.mark.parametrize("size", [(1600, 1300), (1601, 1300), (1600, 1301), (1601, 1301)])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_place_in_half_the_resolution_is_told_in_the_sources_pixels(size, flipped):
    """A spot's middle, to a tenth of a source pixel, from the whole picture and from every second pixel of it."""
    rows, columns = size
    y, x = np.mgrid[:rows, :columns] + 0.5
    breast = (x / (0.7 * columns)) ** 2 + ((y - rows / 2) / (0.42 * rows)) ** 2 < 1
    at = np.array([410.3, 733.9])
    grey = 0.4 * cv2.GaussianBlur(breast.astype(np.float32), (0, 0), 4)
    grey += 0.5 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 12.0**2))
    if flipped:
        grey, at = grey[:, ::-1], np.array([columns - at[0], at[1]])
    values = np.rint(grey * 4095).astype(np.uint16)
    header = plain_header(rows, columns, mm=(FINE, FINE))
    for step, picture in ((1, values), (2, halved(values, 12))):
        image = domain.Image(header, picture.astype(np.float32) / 4095, np.zeros(picture.shape, bool), step=step)
        prepared = preprocess.prepare(image)
        for geometry, plane in ((prepared.fine_geometry, prepared.fine), (prepared.geometry, prepared.plain)):
            assert geometry.flipped == flipped
            assert (geometry.source_width, geometry.source_height) == (columns, rows)
            weight = np.clip(plane - 0.45, 0, None)
            v, u = np.mgrid[: plane.shape[0], : plane.shape[1]] + 0.5
            middle = np.array([[(u * weight).sum(), (v * weight).sum()]]) / weight.sum()
            assert np.abs(geometry.to_source(middle)[0] - at).max() < 0.1
            assert np.abs(geometry.to_working(at[None]) - middle).max() < 0.1


@pytest.mark.parametrize("side", [Laterality.LEFT, Laterality.RIGHT])
def test_a_phantom_gives_the_same_results_in_jpeg_2000_and_without_compression(tmp_path, side):
    values, _ = _phantom(side=side)
    found = [
        analyse(
            _written(tmp_path / f"{n}.dcm", values, syntax=syntax, side=side),
            AnalysisConfig(resolution=HALF),
            CUT,
            large=True,
        )
        for n, syntax in enumerate((ExplicitVRLittleEndian, JPEG2000Lossless))
    ]
    one, other = found
    assert isinstance(one, Analysed), one
    assert isinstance(other, Analysed), other
    assert one.geometry == other.geometry
    assert len(one.regions) == len(other.regions) > 5
    for a, b in zip(one.regions, other.regions, strict=True):
        assert (a.box, a.kind, a.saliency) == (b.box, b.kind, b.saliency)
        assert np.array_equal(a.contour, b.contour)
    assert np.array_equal(one.crops, other.crops)
    assert np.array_equal(one.features, other.features, equal_nan=True)
    assert np.array_equal(one.preview.pixels, other.preview.pixels)
    assert one.preview.large == other.preview.large


@pytest.mark.parametrize("kind", [RegionKind.MASS, RegionKind.CALCIFICATION])
def test_a_lesion_is_found_at_its_place_at_half_the_resolution_and_at_all_of_it(tmp_path, kind):
    values, truth = _phantom(kind=kind)
    header = _written(tmp_path / "a.dcm", values)
    (placed,) = truth.lesions
    for config in (AnalysisConfig(resolution=HALF), AnalysisConfig()):
        analysed = analyse(header, config, CUT, large=True)
        assert isinstance(analysed, Analysed), analysed
        distances = [
            np.hypot(r.centre[0] - placed.x, r.centre[1] - placed.y) for r in analysed.regions if r.kind is kind
        ]
        assert min(distances) < 0.5 * placed.radius
        assert np.array_equal(drawn(header, config, CUT, anonymous=False).pixels, analysed.preview.pixels)
        picture = cv2.imdecode(np.frombuffer(analysed.preview.large, np.uint8), cv2.IMREAD_GRAYSCALE)
        # Nothing is enlarged.
        assert picture.shape[0] == (LARGE_ROWS if config.resolution == FULL else 850)


def test_results_of_half_the_resolution_are_not_kept_for_those_of_all_of_it():
    assert AnalysisConfig().resolution == FULL
    assert AnalysisConfig(resolution=HALF).digest() != AnalysisConfig().digest()
