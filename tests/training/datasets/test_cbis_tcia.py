"""CBIS-DDSM as TCIA ships it: masks wherever they lie, whatever the table says; errors with their row."""

import csv
import logging

import cv2
import numpy as np
import pytest

from mammoscan.core.domain import Laterality, View
from mammoscan.core.errors import LabelError
from mammoscan.training.datasets import cbis_tcia
from tests.training.datasets import made

MASS = (
    "patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "abnormality type",
    "mass shape", "mass margins", "assessment", "pathology", "subtlety", "image file path", "cropped image file path",
    "ROI mask file path",
)  # fmt: skip
CALC = tuple({"breast_density": "breast density", "mass shape": "calc type", "mass margins": "calc distribution"}.get(c, c)
             for c in MASS)  # fmt: skip
SHAPE = (400, 300)
AT = (120, 200, 160, 250)
UID = "1.3.6.1.4.1.9590.100.1.2"


def _row(case="Mass-Training_P_00001_LEFT_CC", number=1, head=MASS, swapped=False, breaks=True, **changes):
    """A row as published, with the line breaks that the path cells have."""
    kind, _, patient, side, view = case.replace("P_", "P").split("_")[0].split("-")[0], *case.replace(
        "P_", "P").replace("-", "_").split("_")[1:5]  # fmt: skip
    mask, crop = ("000000", "000001") if swapped else ("000001", "000000")
    end = "\n" if breaks else ""
    cells = {
        "patient_id": patient.replace("P", "P_"), "breast_density": "3", "breast density": "3",
        "left or right breast": side, "image view": view, "abnormality id": str(number),
        "abnormality type": "mass" if kind == "Mass" else "calcification",
        "mass shape": "IRREGULAR-ARCHITECTURAL_DISTORTION", "mass margins": "SPICULATED",
        "calc type": "PLEOMORPHIC", "calc distribution": "CLUSTERED",
        "assessment": "4", "pathology": "MALIGNANT", "subtlety": "5",
        "image file path": f"{case}/{UID}.1/{UID}.2/000000.dcm",
        "cropped image file path": f"{case}_{number}/{UID}.3/{UID}.4/{crop}.dcm{end}",
        "ROI mask file path": f"{case}_{number}/{UID}.3/{UID}.4/{mask}.dcm{end}",
    } | changes  # fmt: skip
    return [cells[name] for name in head]


def _table(folder, *rows, name="mass_case_description_train_set.csv", head=MASS):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])


def _full(path, at=AT, **more):
    plane = np.full(SHAPE, 300, np.uint16)
    plane[at[1] : at[3], at[0] : at[2]] = 3500
    return made.write_dicom(path, plane, description="full mammogram images", **more)


def _region(mask, crop, at=AT, shape=SHAPE, seed=1):
    """The mask of a region, and its cropped image."""
    made.write_dicom(mask, made.grey(shape, at, low=0, high=255), bits=8, description="ROI mask images")
    rng = np.random.default_rng(seed)
    made.write_dicom(crop, rng.integers(100, 4000, (60, 50)), description="cropped images")


def _tcia(root, case="Mass-Training_P_00001_LEFT_CC", **region):
    inner = root / f"{case}_1" / f"{UID}.3" / f"{UID}.4"
    _full(root / case / f"{UID}.1" / f"{UID}.2" / "000000.dcm")
    _region(inner / "000001.dcm", inner / "000000.dcm", **region)


def _nbia(root, case="Mass-Training_P_00001_LEFT_CC", **region):
    _full(root / case / "07-20-2016-DDSM-NA-74994" / "1.000000-full mammogram images-24515" / "1-1.dcm")
    inner = root / f"{case}_1" / "07-21-2016-DDSM-NA-95567"
    _region(
        inner / "1.000000-ROI mask images-18984" / "1-1.dcm", inner / "1.000000-cropped images-30" / "1-1.dcm", **region
    )


@pytest.mark.parametrize("swapped", [False, True], ids=["as said", "swapped"])
@pytest.mark.parametrize(("write", "below"), [(_tcia, ""), (_nbia, "manifest-ZkhPvrLo5216730872708713142/CBIS-DDSM")])
def test_the_mask_is_found_in_both_layouts_whichever_column_names_it(tmp_path, write, below, swapped):
    write(tmp_path / below)
    _table(tmp_path, _row(swapped=swapped))
    (film,) = cbis_tcia.read(tmp_path)
    ((label, box),) = film.findings()
    assert (label, box) == ("malignant", AT)
    assert made.bright(film.image().pixels) == AT
    assert made.bright(film.lesion_mask().astype(np.uint8)) == AT


def test_mask_and_crop_may_share_a_series_in_either_order(tmp_path):
    case = "Calc-Test_P_00038_LEFT_CC"
    _full(tmp_path / case / "a" / "b" / "1-1.dcm")
    inner = tmp_path / f"{case}_1" / "08-29-2017-DDSM-NA-94942" / "1.000000-ROI mask images-18515"
    _region(inner / "1-1.dcm", inner / "1-2.dcm")
    _table(tmp_path, _row(case, head=CALC), head=CALC, name="calc_case_description_test_set.csv")
    (film,) = cbis_tcia.read(tmp_path)
    (lesion,) = film.lesions()
    assert (lesion.box, lesion.kind) == (AT, "calcification")


def test_facts_of_a_row(tmp_path):
    _tcia(tmp_path)
    _table(tmp_path, _row())
    (film,) = cbis_tcia.read(tmp_path)
    (lesion,) = film.lesions()
    assert (film.name, film.patient, film.density) == ("Mass-Training_P_00001_LEFT_CC", "cbis-ddsm/P_00001", "c")
    assert (film.header.laterality, film.header.view, film.header.density.density.value) == (
        Laterality.LEFT,
        View.CC,
        "c",
    )
    assert (lesion.kind, lesion.assessment, lesion.subtlety) == ("mass", "4", 5)
    assert (film.label, film.is_normal(), film.row) == ("malignant", False, 2)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ("ARCHITECTURAL_DISTORTION", "architectural distortion"),
        ("ASYMMETRIC_BREAST_TISSUE", "asymmetry"),
        ("FOCAL_ASYMMETRIC_DENSITY", "asymmetry"),
        ("OVAL-LYMPH_NODE", "mass"),
        ("", "mass"),
    ],
)
def test_the_kind_follows_the_mass_shape(tmp_path, shape, kind):
    _tcia(tmp_path)
    _table(tmp_path, _row(**{"mass shape": shape}))
    assert cbis_tcia.read(tmp_path)[0].lesions()[0].kind == kind


def test_a_smaller_mask_of_the_same_shape_is_scaled(tmp_path):
    _tcia(tmp_path, shape=(200, 150), at=(60, 100, 80, 125))
    _table(tmp_path, _row())
    (film,) = cbis_tcia.read(tmp_path)
    assert film.lesions()[0].box == AT
    outline = np.asarray(film.outlines()[0])
    assert cv2.pointPolygonTest(outline.astype(np.float32).reshape(-1, 1, 2), (140.0, 225.0), False) > 0


def test_a_mask_of_another_shape_places_nothing_and_takes_the_whole_film(tmp_path, caplog):
    _tcia(tmp_path, shape=(400, 200), at=(60, 100, 80, 125))
    _table(tmp_path, _row())
    (film,) = cbis_tcia.read(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert film.findings() == ()
    assert film.occupied() == ((0.0, 0.0, 300.0, 400.0),)
    assert "000001.dcm: mask of 200 x 400 pixels for an image of 300 x 400" in caplog.text


def test_two_regions_of_a_view_are_two_lesions_of_one_film(tmp_path):
    _tcia(tmp_path)
    inner = tmp_path / "Mass-Training_P_00001_LEFT_CC_2" / "x" / "y"
    _region(inner / "1-2.dcm", inner / "1-1.dcm", at=(10, 20, 30, 40))
    _table(tmp_path, _row(), _row(number=2, pathology="BENIGN_WITHOUT_CALLBACK"))
    (film,) = cbis_tcia.read(tmp_path)
    assert film.findings() == (("malignant", AT), ("benign", (10.0, 20.0, 30.0, 40.0)))


def test_a_patient_of_both_tables_is_one_patient(tmp_path):
    _tcia(tmp_path / "a")
    _tcia(tmp_path / "b", "Calc-Test_P_00001_LEFT_CC")
    _table(tmp_path, _row())
    _table(tmp_path, _row("Calc-Test_P_00001_LEFT_CC", head=CALC), head=CALC, name="calc_case_description_test_set.csv")
    assert {film.patient for film in cbis_tcia.read(tmp_path)} == {"cbis-ddsm/P_00001"}


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"pathology": "UNSURE"}, "pathology"),
        ({"pathology": ""}, "pathology"),
        ({"left or right breast": "MIDDLE"}, "left_or_right_breast"),
        ({"image view": "TOP"}, "image_view"),
        ({"breast_density": "7"}, "breast_density"),
        ({"abnormality type": "cyst"}, "abnormality_type"),
        ({"subtlety": "9"}, "subtlety"),
        ({"assessment": "x"}, "assessment"),
        ({"image file path": "somewhere/else.dcm"}, "image_file_path"),
        ({"image file path": "Mass-Training_P_00001_RIGHT_CC/a/b/000000.dcm"}, "image_file_path"),
        ({"image file path": "Mass-Training_P_00001_LEFT_MLO/a/b/000000.dcm", "image view": "MLO"}, "image_file_path"),
        ({"ROI mask file path": "", "cropped image file path": ""}, "roi_mask_file_path"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_as_a_spreadsheet_counts(tmp_path, changes, column):
    """The row before it holds line breaks in its cells, which a count of lines would take for rows."""
    _tcia(tmp_path)
    other = "Mass-Training_P_00002_LEFT_CC"
    _tcia(tmp_path, other)
    _table(tmp_path, _row(other), _row(**changes))
    with pytest.raises(LabelError, match=rf"mass_case_description_train_set.csv: row 3, column '{column}'.*\(.+\)"):
        cbis_tcia.read(tmp_path)


def test_rows_that_contradict_each_other_are_named(tmp_path):
    _tcia(tmp_path)
    _table(tmp_path, _row(), _row(pathology="BENIGN"))
    with pytest.raises(LabelError, match=r"row 3, column 'pathology'.*row 2"):
        cbis_tcia.read(tmp_path)
    _table(tmp_path, _row(), _row(breast_density="1"))
    with pytest.raises(LabelError, match=r"row 3, column 'breast_density'.*row 2"):
        cbis_tcia.read(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    _tcia(tmp_path)
    _table(tmp_path, [cell for cell, name in zip(_row(), MASS, strict=True) if name != "pathology"],
           head=[name for name in MASS if name != "pathology"])  # fmt: skip
    with pytest.raises(LabelError, match="columns missing: pathology"):
        cbis_tcia.read(tmp_path)


def test_an_image_that_is_no_dicom_file_is_named(tmp_path):
    _tcia(tmp_path)
    _table(tmp_path, _row())
    next((tmp_path / "Mass-Training_P_00001_LEFT_CC").rglob("*.dcm")).write_bytes(b"no image" * 100)
    with pytest.raises(LabelError, match=r"row 2, column 'image_file_path'.*000000.dcm cannot be read"):
        cbis_tcia.read(tmp_path)


def test_a_case_without_a_mask_is_named_with_its_row(tmp_path):
    _tcia(tmp_path)
    _table(tmp_path, _row())
    next((tmp_path / "Mass-Training_P_00001_LEFT_CC_1").rglob("000001.dcm")).unlink()
    (film,) = cbis_tcia.read(tmp_path)
    with pytest.raises(LabelError, match=r"row 2, column 'roi_mask_file_path'.*mask of two grey levels"):
        film.findings()
