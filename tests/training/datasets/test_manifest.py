"""A manifest: places in every kind of image file, several lesions an image, errors with row and column."""

import numpy as np
import PIL.Image
import pytest

from mammoscan.core.domain import Laterality, View
from mammoscan.core.errors import LabelError
from mammoscan.synthetic.dicom import FOR_PRESENTATION
from mammoscan.training.datasets import layouts, manifest
from tests.training.datasets import made

HEAD = tuple(column.name for column in layouts.MANIFEST)
SHAPE = (400, 300)
AT = (120, 200, 160, 250)
BOX = dict(zip(("x0", "y0", "x1", "y1"), map(str, AT), strict=True))
CONTOUR = "120 200; 160 200; 160 250; 120 250"


def _row(path="a/film.png", **cells):
    known = {"path": path, "patient": "p1", "laterality": "L", "view": "CC", "label": "malignant"} | cells
    return [known.get(name, "") for name in HEAD]


def _table(root, *rows, head=HEAD, separator=","):
    path = root / "manifest.csv"
    path.write_text("".join(separator.join(row) + "\n" for row in (head, *rows)), encoding="utf-8")
    return path


def _image(root, name="a/film.png"):
    return made.write_image(root / name, made.grey(SHAPE, AT))


@pytest.mark.parametrize("name", ["a/film.png", "film.jpg", "film.jpeg", "film.pgm"])
def test_a_box_lies_where_the_image_is_bright(tmp_path, name):
    _image(tmp_path, name)
    (film,) = manifest.read(_table(tmp_path, _row(name, **BOX)))
    assert film.findings() == (("malignant", AT),)
    assert made.bright(film.image().pixels) == AT


def test_the_owners_columns_are_kept_as_written_with_a_decimal_point(tmp_path):
    _image(tmp_path)
    head = (*HEAD, "Clinical BMI", "clinical_hormones")
    (film,) = manifest.read(_table(tmp_path, [*_row(age="61,5"), "24,5", "Now"], head=head, separator=";"))
    assert dict(film.clinical) == {"clinical_bmi": "24.5", "clinical_hormones": "Now"}
    (film,) = manifest.read(_table(tmp_path, _row()))
    assert dict(film.clinical) == {}


def test_rows_of_a_patient_that_contradict_each_other_are_refused_also_where_one_is_empty(tmp_path):
    _image(tmp_path, "a.png")
    _image(tmp_path, "b.png")
    head = (*HEAD, "clinical_bmi")
    rows = [[*_row("a.png"), "24.5"], [*_row("b.png", view="MLO"), ""]]
    with pytest.raises(LabelError, match="row 3, column 'clinical_bmi': contradicts row 2 about the same patient"):
        manifest.read(_table(tmp_path, *rows, head=head))


def test_a_contour_lies_where_a_dicom_image_is_bright(tmp_path):
    plane = made.grey(SHAPE, AT).astype(np.uint16) * 16
    made.write_dicom(tmp_path / "i.dcm", plane, spacing=0.07, sop_class=FOR_PRESENTATION)
    (film,) = manifest.read(
        _table(tmp_path, _row("i.dcm", contour=CONTOUR, kind="asymmetry", assessment="4b", subtlety="2"))
    )
    (lesion,) = film.lesions()
    assert made.bright(film.image().pixels) == made.bright(film.lesion_mask().astype(np.uint8)) == AT == lesion.box
    assert (lesion.kind, lesion.assessment, lesion.subtlety) == ("asymmetry", "4b", 2)
    assert lesion.size_mm == pytest.approx(50 * 0.07)


def test_sixteen_bits_go_from_lowest_to_highest(tmp_path):
    plane = 1000 + made.grey(SHAPE, AT, low=0, high=1).astype(np.uint16) * 3000
    PIL.Image.fromarray(plane).save(tmp_path / "deep.png")
    (film,) = manifest.read(_table(tmp_path, _row("deep.png", **BOX)))
    pixels = film.image().pixels
    assert (pixels.min(), pixels.max(), made.bright(pixels)) == (0.0, 1.0, AT)


def test_an_orientation_in_exif_does_not_turn_the_pixels(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(made.grey(SHAPE, AT)).save(tmp_path / "turned.jpg", exif=exif)
    (film,) = manifest.read(_table(tmp_path, _row("turned.jpg", **BOX)))
    assert made.bright(film.image().pixels) == AT


def test_facts_of_a_table_with_semicolons(tmp_path):
    _image(tmp_path)
    row = _row(density="3", age="61.5", pixel_mm="0.1", laterality="right", view="mlo", **BOX)
    (film,) = manifest.read(_table(tmp_path, row, separator=";"))
    assert (film.header.laterality, film.header.view, film.density) == (Laterality.RIGHT, View.MLO, "c")
    assert (film.header.age.years, film.header.density.density.value, film.patient) == (61.5, "c", "manifest/p1")
    assert film.lesions()[0].size_mm == pytest.approx(5.0)


def test_several_rows_are_several_lesions_and_a_label_needs_no_place(tmp_path):
    for name in ("a/film.png", "b.png", "c.png"):
        _image(tmp_path, name)
    films = manifest.read(
        _table(
            tmp_path,
            _row(**BOX),
            _row(**BOX | {"x0": "10"}, label="benign"),
            _row("b.png", label="benign"),
            _row("c.png", label="normal"),
        )
    )
    assert [len(f.lesions()) for f in films] == [2, 0, 0]
    assert [f.label for f in films] == ["malignant", "benign", "normal"]
    assert [f.is_normal() for f in films] == [False, False, True]


def test_a_dicom_file_fills_in_what_the_table_leaves_open(tmp_path):
    made.write_dicom(tmp_path / "i.dcm", made.grey(SHAPE, AT), side="R", view="MLO")
    (film,) = manifest.read(_table(tmp_path, _row("i.dcm", laterality="", view="")))
    assert (film.header.laterality, film.header.view) == (Laterality.RIGHT, View.MLO)


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ({"label": "cancerous"}, "label"),
        ({"label": ""}, "label"),
        ({"label": "normal", **BOX}, "label"),
        ({"patient": ""}, "patient"),
        ({"path": ""}, "path"),
        ({"path": "missing.png"}, "path"),
        ({"laterality": "M"}, "laterality"),
        ({"view": "TOP"}, "view"),
        ({"density": "e"}, "density"),
        ({"age": "old"}, "age"),
        ({"age": "140"}, "age"),
        ({"age": "nan"}, "age"),
        ({"pixel_mm": "70"}, "pixel_mm"),
        ({"kind": "lump", **BOX}, "kind"),
        ({"subtlety": "6", **BOX}, "subtlety"),
        ({**BOX, "x1": "302"}, "x1"),
        ({**BOX, "y0": "-4"}, "y0"),
        ({**BOX, "x1": "100"}, "x1"),
        ({**BOX, "y1": ""}, "y1"),
        ({**BOX, "contour": CONTOUR}, "contour"),
        ({"contour": "1 2; 3 4"}, "contour"),
        ({"contour": "1 2; 3 4; five 6"}, "contour"),
        ({"contour": "1 2; 30 40; 500 60"}, "contour"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, cells, column):
    _image(tmp_path)
    _image(tmp_path, "b.png")
    table = _table(tmp_path, _row("b.png"), [], _row(**cells))
    with pytest.raises(LabelError, match=rf"manifest.csv: row 4, column '{column}': .*\(.+\)$"):
        manifest.read(table)


@pytest.mark.parametrize(
    ("first", "second", "column"),
    [
        ({}, {"patient": "p2"}, "patient"),
        ({}, {"laterality": "R"}, "laterality"),
        ({}, {"view": "MLO"}, "view"),
        ({"density": "a"}, {"density": "b"}, "density"),
        ({"age": "50"}, {"age": "51"}, "age"),
        ({"label": "normal"}, {}, "label"),
        (BOX, BOX, "path"),
    ],
)
def test_rows_that_contradict_each_other_are_named(tmp_path, first, second, column):
    _image(tmp_path)
    with pytest.raises(LabelError, match=rf"row 3, column '{column}'.*row 2"):
        manifest.read(_table(tmp_path, _row(**first), _row(**second)))


@pytest.mark.parametrize(
    ("cells", "column"),
    [({"laterality": "R"}, "laterality"), ({"view": "MLO"}, "view"), ({"pixel_mm": "0.2"}, "pixel_mm")],
)
def test_a_row_that_contradicts_its_dicom_file_is_named(tmp_path, cells, column):
    made.write_dicom(tmp_path / "i.dcm", made.grey(SHAPE, AT), spacing=0.07, sop_class=FOR_PRESENTATION)
    with pytest.raises(LabelError, match=rf"row 2, column '{column}'.*the DICOM file says"):
        manifest.read(_table(tmp_path, _row("i.dcm", **cells)))


@pytest.mark.parametrize("name", ["bad.png", "bad.jpg", "bad.pgm", "bad.dcm"])
def test_an_image_that_is_none_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"not a picture" * 50)
    with pytest.raises(LabelError, match=rf"row 2, column 'path': the image .*{name} cannot be read"):
        manifest.read(_table(tmp_path, _row(name)))


@pytest.mark.parametrize("name", ["film.png", "film.jpg"])
def test_a_truncated_image_is_found_when_it_is_read(tmp_path, name):
    path = _image(tmp_path, name)
    (film,) = manifest.read(_table(tmp_path, _row(name)))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(LabelError, match=rf"{name}: the image cannot be read.*row 2 of manifest.csv"):
        film.image()


def test_a_table_that_is_none_is_named(tmp_path):
    with pytest.raises(LabelError, match="columns missing: label"):
        manifest.read(_table(tmp_path, _row(), head=[n if n != "label" else "verdict" for n in HEAD]))
    with pytest.raises(LabelError, match="columns twice: patient"):
        manifest.read(_table(tmp_path, head=(*HEAD, "Patient")))
    with pytest.raises(LabelError, match=r"row 2: .* cells under"):
        manifest.read(_table(tmp_path, [*_row(), "more"]))
    path = tmp_path / "manifest.csv"
    path.write_bytes("path,patient\nснимок,1\n".encode("cp1251"))
    with pytest.raises(LabelError, match=r"not UTF-8.*save the table as UTF-8"):
        manifest.read(path)
    path.unlink()
    with pytest.raises(LabelError, match="cannot be read"):
        manifest.read(path)
    path.write_text("")
    with pytest.raises(LabelError, match="columns missing"):
        manifest.read(path)
