"""What the state file keeps comes back the same."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from mammoscan.core.domain import (
    Density,
    DensityReading,
    DensitySource,
    Failed,
    Header,
    Laterality,
    Scored,
    Skipped,
    SourceFile,
    View,
)
from mammoscan.core.errors import Reason, Stage
from mammoscan.run import codec
from tests.report import results

ROOT = Path("/archive")
FILE = SourceFile(ROOT / "sub" / "Żółć\udcff.dcm", r"sub/Żółć\xff.dcm", 1, 2)
HEADER = dataclasses.replace(results.header(), file=FILE)
READINGS = (DensityReading(Density.C, DensitySource.REPORT, Laterality.LEFT),)
READ = {
    "image": HEADER,
    "image without facts": dataclasses.replace(
        HEADER, age=None, spacing=None, series_number=None, view=View.UNKNOWN, skip=Reason.SPECIMEN, flags=()
    ),
    "skipped": Skipped(FILE, Stage.HEADER, Reason.DENSITY_SOURCE, "", "1.2", "1.2.3", READINGS, ("P1", "HOSPITAL")),
    "failed": Failed(FILE, Stage.HEADER, Reason.BROKEN_HEADER, "cut \udc80 here", "1.2", "1.2.3"),
}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_what_a_header_said_comes_back_the_same_also_where_the_archive_lies_elsewhere(read):
    kept = codec.encode_facts(read, ROOT)
    back = codec.decode_facts(kept, ROOT)
    assert (back if isinstance(back, Header) else dataclasses.replace(back, detail=read.detail)) == read
    assert getattr(back, "detail", "").isascii()
    there = codec.decode_facts(kept, Path("/moved"))
    assert there.file.path == Path("/moved") / "sub" / "Żółć\udcff.dcm"
    assert codec.encode_facts(read, ROOT) == kept


@pytest.mark.parametrize("root", [".", "..", "/", "here", "a/../b"])
def test_a_file_is_found_again_however_the_archive_is_named(root):
    for place in ("x.dcm", "sub/x.dcm", "..x/.y"):
        file = SourceFile(Path(os.path.join(Path(root), place)), place, 1, 2)  # noqa: PTH118 (as the walk makes it)
        kept = codec.encode_facts(dataclasses.replace(HEADER, file=file), Path(root))
        assert codec.decode_facts(kept, Path(root)).file == file
        assert codec.decode_facts(kept, Path("/moved")).file.path == Path("/moved") / place


def _scored():
    found = tuple(results.finding(HEADER, number, 0.3 * number) for number in (1, 2, 3))
    features = found[0].features.copy()
    features[:2] = np.nan, 1e30
    first = dataclasses.replace(found[0], features=features, heat=None, heat_box=None, lesion_kind="spiculated")
    made = results.prediction(HEADER, (first, *found[1:]))
    return Scored(**{f.name: getattr(made, f.name) for f in dataclasses.fields(Scored)})


def test_a_result_comes_back_but_for_what_the_eye_and_the_tables_do_not_see():
    before = _scored()
    after = codec.decode_scored(codec.encode_scored(before), HEADER)
    same = {f.name for f in dataclasses.fields(Scored)} - {"findings", "seconds"}
    assert all(getattr(before, name) == getattr(after, name) for name in same)
    for one, other in zip(before.findings, after.findings, strict=True):
        np.testing.assert_allclose(other.region.contour, one.region.contour, atol=0.005, rtol=0)
        np.testing.assert_allclose(other.features, one.features, rtol=1e-7)
        assert (one.heat is None) == (other.heat is None)
        if one.heat is not None:
            np.testing.assert_allclose(other.heat, one.heat, atol=0.5 / 255)
        arrays = {"region", "features", "heat"}
        assert all(
            getattr(one, f.name) == getattr(other, f.name) for f in dataclasses.fields(one) if f.name not in arrays
        )
        plain = {f.name for f in dataclasses.fields(one.region)} - {"contour"}
        assert all(getattr(one.region, name) == getattr(other.region, name) for name in plain)


def test_what_was_read_back_is_kept_without_a_further_change():
    kept = codec.encode_scored(codec.decode_scored(codec.encode_scored(_scored()), HEADER))
    assert codec.encode_scored(codec.decode_scored(kept, HEADER)) == kept


@pytest.mark.parametrize("far", [0.5, 40_000.0])
def test_contours_are_kept_to_a_hundredth_of_a_pixel_wherever_they_lie(far):
    contour = np.array([[0.0, 0.0], [far, 3.14], [far, 70_000.25], [1.0, 2.0]])
    text = ";".join(f"{x:.2f} {y:.2f}" for x, y in contour)
    assert codec.contour_text(codec.contour_bytes(text)) == text.encode()


@pytest.mark.parametrize("text", ["", "1 2", "1.00 2.00 3.00;1.00 2.00 3.00", "nan nan", "a b", "1.005 2.00", "'=1 2"])
def test_what_is_no_contour_as_the_tables_write_it_is_left_as_text(text):
    assert codec.contour_bytes(text) is None


@pytest.mark.parametrize("content", [b"", b"junk", codec.encode_facts(HEADER, ROOT)[:-9]])
def test_bytes_that_cannot_be_read_back_are_refused(content):
    with pytest.raises(ValueError, match="read back"):
        codec.decode_facts(content, ROOT)
    with pytest.raises(ValueError, match="read back"):
        codec.decode_scored(content, HEADER)
    assert not codec.can_be_read(content)


def test_bytes_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="read back"):
        codec.decode_scored(codec.encode_facts(HEADER, ROOT), HEADER)
    assert isinstance(codec.decode_facts(codec.encode_facts(HEADER, ROOT), ROOT), Header)
