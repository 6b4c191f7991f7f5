"""Kinds of input that people report: each comes out as its plain reference does, or for the reason that fits.

The inputs lie in ``../shared/cases`` and hold a film that is for research only, so that they are read from there; the
same kinds are made of phantoms in the tests of the stages. Each has its own study, so one run does all.
"""

import csv
import shutil
from pathlib import Path

import pytest

from mammoscan.core.config import AnalysisConfig
from mammoscan.core.console import Console
from mammoscan.run import pipeline
from mammoscan.run.config import RunConfig

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
SCORE, AREA, DENSITY = 0.03, 0.05, 4.0  # as said there: score 0 to 1, share of the area, points of percent density

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CASES / "REFA-plain.dcm").is_file(), reason="needs the inputs in ../shared/cases"),
]

# File to the reference that it must equal, or to the codes that name what is wrong with it.
LIKE = {
    "H02-uid-with-leading-zeros": "REFA",
    "H08-study-time-with-colons": "REFA",
    "H09-nominal-scanned-pixel-spacing-only": "REFA",
    "H11-vr-of-two-blanks": "REFA",
    "H24-overlong-accession-study-id-description": "REFA",
    "H25-name-with-line-break": "REFA",
    "P01-voi-lut-8bit-entries": "REFB",
    "P03-voi-lut-says-16-holds-12-bits": "REFA",
    "P06-voi-lut-in-big-endian": "REFA",
    "P08-window-with-decimal-comma": "REFA",
    "P12-high-bit-15-of-12-stored": "REFA",
    "P13-padding-65535-in-12-bits": "REFA",
    "P16-jpeg-lossless-zeros-after-eoi": "REFA",
    "P17-no-sequence-delimiter-at-the-end": "REFA",
    "P30-compressed-without-pixel-representation": "REFA",
    "P31-voi-lut-item-without-data": "REFA",
    "P38-signed-padding-in-implicit-vr": "REFA",
    "P41-air-is-declared-padding": "REFD",
    "H04-same-instance-other-file-meta/from-archive": "REFA",
}
# Either is right: read as its reference, or named.
LIKE_OR_NAMED = {
    "H01-patient-id-with-backslash": ("REFA", {"ambiguous-identifier"}),
    "H22-prefix-without-preamble": ("REFA", {"broken-header"}),
    "P23-native-syntax-but-jpeg-inside": ("REFA", {"decode-failed"}),
    "K07-mammography-class-modality-cr": ("REFA", set()),
}
NAMED = {
    "K01-spot-modifier-at-the-top-level": {"spot-view"},
    "K02-paddle-says-spt": {"spot-view"},
    "K04-magnified-by-its-distances": {"magnification-view"},
    "K06-contrast-subtracted-image": {"contrast-subtraction"},
    "R02-raw-linear-monochrome1": {"for-processing"},
    "F01-export.zip": {"archive-not-unpacked"},
    "F02-image.dcm.gz": {"archive-not-unpacked"},
    "H04-same-instance-other-file-meta/from-modality": {"duplicate"},
}


@pytest.fixture(scope="session")
def replayed(tmp_path_factory):
    """The rows of ``images`` and of ``files`` by file name without .dcm, and the folder of results."""
    work = tmp_path_factory.mktemp("cases")
    archive = work / "archive"
    archive.mkdir()
    for path in CASES.iterdir():
        if path.name == "scripts" or path.suffix in {".md", ".csv"}:
            continue
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, archive / path.name)
    pipeline.run(RunConfig(archive=archive, out=work / "out", settle_seconds=0), Console(quiet=True))
    return _by_file(work / "out"), work / "out"


def _by_file(out):
    def table(name):
        with (out / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    images = {row["sop_instance_uid"]: row for row in table("images")}
    rows = {}
    for row in table("files"):
        name = row["path"].removesuffix(".dcm")
        rows[name] = {**row, **images.get(row["sop_instance_uid"] if row["status"] == "analysed" else "", {})}
    return rows


def _reference(rows, name):
    return next(row for path, row in rows.items() if path.startswith(name))


def _equals(row, expected):
    """What differs by more than is allowed; '' where nothing does."""
    if row["status"] != "analysed":
        return f"{row['status']}: {row['code']} {row.get('detail', '')}"
    for column, allowed in (
        ("malignancy", SCORE),
        ("breast_area_mm2", AREA * float(expected["breast_area_mm2"])),
        ("percent_density", DENSITY),
    ):
        if not row[column] or abs(float(row[column]) - float(expected[column])) > allowed:
            return f"{column} {row[column]}, expected {expected[column]} within {allowed:.3g}"
    return ""


@pytest.mark.parametrize("name", LIKE)
def test_it_comes_out_as_its_plain_reference(replayed, name):
    rows, _ = replayed
    assert _equals(rows[name], _reference(rows, LIKE[name])) == ""


@pytest.mark.parametrize("name", LIKE_OR_NAMED)
def test_it_comes_out_as_its_plain_reference_or_is_named(replayed, name):
    rows, _ = replayed
    reference, codes = LIKE_OR_NAMED[name]
    assert rows[name]["code"] in codes or _equals(rows[name], _reference(rows, reference)) == ""


@pytest.mark.parametrize("name", NAMED)
def test_it_is_named(replayed, name):
    rows, _ = replayed
    assert rows[name]["code"] in NAMED[name], rows[name]


def test_a_patient_identifier_is_never_cut(replayed):
    _, out = replayed
    for path in out.rglob("*.csv"):
        with path.open(encoding="utf-8", newline="") as stream:
            assert all(row.get("patient_id") != "7" for row in csv.DictReader(stream)), path


def test_an_image_without_identifier_beside_one_with_it_is_no_second_patient(replayed):
    rows, _ = replayed
    for number in (1, 2):
        row = rows[f"H06-one-image-without-patient-id/{number}"]
        assert row["status"] == "analysed" or "missing" in row["detail"] + row["code"], row
        assert row["code"] != "mixed-patients"


def test_a_dense_breast_without_air_is_not_turned_over(replayed):
    row = replayed[0]["P43-dense-breast-without-air"]
    assert row["status"] == "analysed"
    assert "inverted-pixels" not in row["flags"]


def test_a_raw_linear_image_is_the_right_way_up(tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    for name in ("R02-raw-linear-monochrome1.dcm", "REFA-plain.dcm"):
        shutil.copy2(CASES / name, archive / name)
    analysis = AnalysisConfig(include=tuple(sorted({*AnalysisConfig().include, "for-processing"})))
    pipeline.run(
        RunConfig(archive=archive, out=tmp_path / "out", analysis=analysis, settle_seconds=0), Console(quiet=True)
    )
    rows = _by_file(tmp_path / "out")
    row, reference = rows["R02-raw-linear-monochrome1"], rows["REFA-plain"]
    assert row["status"] == "analysed", row
    assert "inverted-pixels" not in row["flags"]
    assert abs(float(row["breast_area_mm2"]) / float(reference["breast_area_mm2"]) - 1) <= AREA


def test_two_images_of_a_view_with_one_label_are_no_contradiction():
    from mammoscan.audit import labels

    found = labels.read_labels(CASES / "A01-labels-two-images-of-a-view.csv")
    assert found
