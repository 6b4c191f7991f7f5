"""The four prepared folders: places after the stretch is undone, masks, labels by breast, errors with their row."""

import numpy as np
import pytest

from mammoscan.core.errors import LabelError
from mammoscan.training.datasets import folders
from tests.training.datasets import made

ROWS = {
    "mias": {"image": "mdb005", "patient": "mias003", "laterality": "R", "view": "MLO", "density": "F",
             "abnormality": "CIRC", "severity": "B", "x": "477", "y": "891", "radius": "30"},
    "cbis-mass": {"file": "00001_LEFT_CC.jpg", "patient": "P_00001", "laterality": "L", "view": "CC", "x": "100",
                  "y": "400", "w": "100", "h": "80", "n_lesions": "1", "pathology": "MALIGNANT", "certain": "1",
                  "density": "3", "assessment": "4", "shape": "ASYMMETRIC_BREAST_TISSUE", "margins": "", "subtlety": "4"},
    "cesm": {"image": "P1_L_DM_MLO", "patient": "P1", "laterality": "L", "view": "MLO", "age": "46", "density": "C",
             "birads": "4", "findings": "Architectural distortion", "pathology": "Malignant"},
    "cesm-cc": {"image": "IM0087", "patient": "P11", "patient_confidence": "high", "laterality": "R", "view": "CC",
                "label": "benign", "age": "51", "density": "C", "birads": "3", "calcification": "0", "mass": "1",
                "findings": "Equal density mass"},
    "rsna": {"image": "25_1442180348", "patient": "rsna25", "site": "1", "laterality": "L", "view": "MLO", "age": "62",
             "cancer": "0", "biopsy": "0", "invasive": "0", "birads": "1", "implant": "0", "density": "", "machine": "49"},
}  # fmt: skip
SIDE = {"mias": 1024, "cbis-mass": 800, "cesm": 512, "cesm-cc": 700, "rsna": 480}
AT = (100, 400, 200, 480)


def _write(root, source, *changes, at=AT, name=None):
    folder = root / (name or source)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [ROWS[source] | change for change in (changes or ({},))]
    (folder / "labels.csv").write_text(
        "".join(",".join(cells) + "\n" for cells in (ROWS[source], *(row.values() for row in rows)))
    )
    stem = ROWS[source][folders._NAME[source]].removesuffix(".jpg")
    plane = made.grey((SIDE[source], SIDE[source]), at)
    made.write_image(folder / "images" / f"{stem}{'.png' if source == 'mias' else '.jpg'}", plane)
    return folder, stem


def _one(root, source, *changes, **more):
    folder, _ = _write(root, source, *changes, **more)
    (film,) = folders.read_folder(folder, source)
    return film


def test_a_mias_circle_lies_where_the_image_is_bright(tmp_path):
    film = _one(tmp_path, "mias", at=(447, 861, 507, 921))
    assert film.findings() == (("benign", (447, 861, 507, 921)),)
    assert made.bright(film.image().pixels) == film.occupied()[0]
    assert film.lesions()[0].size_mm == pytest.approx(12.0)


def test_a_cbis_box_lies_where_the_unstretched_image_is_bright(tmp_path):
    film = _one(tmp_path, "cbis-mass")
    (lesion,) = film.lesions()
    assert lesion.box == pytest.approx((60, 400, 120, 480))
    assert made.bright(film.image().pixels) == pytest.approx(lesion.box, abs=1)
    assert (lesion.label, lesion.kind, lesion.assessment, lesion.subtlety) == ("malignant", "asymmetry", "4", 4)
    assert (film.patient, film.density) == ("cbis-ddsm/P_00001", "c")


def _with_ratio(root, ratio):
    folder, stem = _write(root, "cbis-mass")
    (folder / "aspect.csv").write_text(f"file,width_over_height\n{stem}.jpg,{ratio}\n")
    return folder, stem


def test_a_cbis_film_gets_its_own_ratio_of_width_to_height_where_it_is_known(tmp_path):
    folder, _ = _with_ratio(tmp_path, 0.5)
    (film,) = folders.read_folder(folder, "cbis-mass")
    assert (film.header.rows, film.header.columns) == (800, 400)
    assert film.lesions()[0].box == pytest.approx((50, 400, 100, 480))
    assert made.bright(film.image().pixels) == pytest.approx(film.lesions()[0].box, abs=1)


@pytest.mark.parametrize("ratio", ["", "3", "wide"])
def test_a_ratio_that_cannot_be_is_named_with_its_row(tmp_path, ratio):
    folder, _ = _with_ratio(tmp_path, ratio)
    with pytest.raises(LabelError, match=r"aspect.csv: row 2, column 'width_over_height'"):
        folders.read_folder(folder, "cbis-mass")


def test_a_cbis_outline_is_that_of_the_mask_on_its_box(tmp_path):
    folder, stem = _with_ratio(tmp_path, 0.5)
    mask = made.grey((800, 800), (105, 402, 198, 478), low=0, high=255)
    mask[600:700, 600:700] = 255  # of another lesion, which has no box
    made.write_image(folder / "masks" / f"{stem}.png", mask)
    (film,) = folders.read_folder(folder, "cbis-mass")
    (lesion,) = film.lesions()
    assert lesion.box == pytest.approx((50, 400, 100, 480))
    xs, ys = np.array(lesion.contour).T
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == pytest.approx((52.5, 402, 99, 478), abs=1.5)
    assert made.bright(film.lesion_mask().astype(np.uint8)) == pytest.approx((52.5, 402, 99, 478), abs=1.5)


def test_a_cbis_box_far_from_every_part_of_the_mask_has_no_outline(tmp_path):
    folder, stem = _write(tmp_path, "cbis-mass")
    made.write_image(folder / "masks" / f"{stem}.png", made.grey((800, 800), (500, 100, 560, 160), low=0, high=255))
    (film,) = folders.read_folder(folder, "cbis-mass")
    assert film.lesions()[0].contour == ()
    assert film.lesion_mask() is None


@pytest.mark.parametrize(("label", "worst"), [("normal", "normal"), ("benign", "benign"), ("mixed", "malignant")])
def test_cesm_cc_is_labelled_by_view_and_its_patients_are_those_of_cesm(tmp_path, label, worst):
    film = _one(tmp_path, "cesm-cc", {"label": label})
    assert (film.label, film.is_normal(), film.lesions()) == (worst, label == "normal", ())
    assert (film.patient, film.density, film.header.age.years) == ("cesm/P11", "c", 51)
    folder, _ = _write(tmp_path / "more", "cesm", {"patient": "P11"})
    (other,) = folders.read_folder(folder, "cesm")
    assert other.patient == film.patient
    assert film.image().pixels.shape == (700, 700)


def test_an_uncertain_cbis_box_is_a_place_without_a_class(tmp_path):
    film = _one(tmp_path, "cbis-mass", {"pathology": "MIXED", "certain": "0"})
    assert (film.findings(), len(film.occupied()), film.label) == ((), 1, "malignant")


def test_a_cesm_mask_lies_where_the_image_is_bright(tmp_path):
    folder, stem = _write(tmp_path, "cesm")
    made.write_image(folder / "masks" / f"{stem}.jpg", made.grey((512, 512), AT, low=0, high=255))
    (film,) = folders.read_folder(folder, "cesm")
    ((label, box),) = film.findings()
    assert (label, box) == ("malignant", AT)
    assert made.bright(film.image().pixels) == AT
    assert made.bright(film.lesion_mask().astype(np.uint8)) == AT
    assert film.lesions()[0].kind == "architectural distortion"


@pytest.mark.parametrize(
    ("findings", "kind"),
    [
        ("High density mass with speculated margin and overlying microcalcification$Benign macrocalcificaion", "mass"),
        ("Asymmetrical increased density with overlying segmental microcalcification", "asymmetry"),
        ("Pop corn macrocalcification", "calcification"),
        ("Asymmetrical increased density and high density mass with indistinct margin", ""),
        ("Diffuse edematous changes with clusters of pleomorphic microcalcifications", ""),
        ("Diffuse edematous changes$Benign macrocalcifications", ""),
        ("Normal", ""),
    ],
)
def test_the_kind_of_a_cesm_lesion_is_what_its_report_says_alone(findings, kind):
    assert folders._cesm_kind(findings) == kind


@pytest.mark.parametrize(
    ("change", "label"),
    [({}, "normal"), ({"biopsy": "1"}, "benign"), ({"biopsy": "1", "cancer": "1"}, "malignant")],
)
def test_rsna_is_labelled_by_breast(tmp_path, change, label):
    film = _one(tmp_path, "rsna", change)
    assert (film.label, film.is_normal(), film.lesions()) == (label, label == "normal", ())
    assert film.header.age.years == 62
    assert film.image().pixels.shape == (480, 390)


@pytest.mark.parametrize(
    ("source", "change", "column"),
    [
        ("mias", {"abnormality": "LUMP"}, "abnormality"),
        ("mias", {"severity": ""}, "severity"),
        ("mias", {"x": "2000"}, "x"),
        ("mias", {"y": ""}, "x"),
        ("mias", {"density": "b"}, "density"),
        ("mias", {"laterality": "X"}, "laterality"),
        ("mias", {"patient": "mias009"}, "patient"),
        ("cbis-mass", {"pathology": "UNSURE"}, "pathology"),
        ("cbis-mass", {"w": "-3"}, "w"),
        ("cbis-mass", {"x": "790"}, "x"),
        ("cbis-mass", {"certain": "maybe"}, "certain"),
        ("cesm", {"pathology": ""}, "pathology"),
        ("cesm-cc", {"label": "probably"}, "label"),
        ("rsna", {"cancer": "2"}, "cancer"),
        ("rsna", {"view": "TOP"}, "view"),
        ("rsna", {"image": ""}, "image"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, source, change, column):
    folder, _ = _write(tmp_path, source, {}, change)
    with pytest.raises(LabelError, match=rf"labels.csv: row 3, column '{column}'.*\(.+\)"):
        folders.read_folder(folder, source)


def test_an_image_or_mask_that_is_missing_is_named_with_its_row(tmp_path):
    folder, stem = _write(tmp_path, "cbis-mass")
    (film,) = folders.read_folder(folder, "cbis-mass")
    (folder / "images" / f"{stem}.jpg").unlink()
    with pytest.raises(LabelError, match=r"labels.csv: row 2, column 'file'.*00001_LEFT_CC.jpg cannot be read"):
        film.image()
    with pytest.raises(LabelError, match=r"row 2, column 'image'.*masks.*P1_L_DM_MLO.jpg cannot be read"):
        _one(tmp_path, "cesm").findings()


def test_an_image_of_another_size_is_named_with_its_row(tmp_path):
    folder, stem = _write(tmp_path, "rsna")
    made.write_image(folder / "images" / f"{stem}.jpg", made.grey((300, 300), (1, 1, 9, 9)))
    with pytest.raises(LabelError, match=r"row 2, column 'image'.*expected 480 x 480"):
        folders.read_folder(folder, "rsna")[0].image()
