"""INbreast: CSV and workbooks, DICOM by file name, contours of the XML property lists; errors with their row."""

import plistlib

import numpy as np
import openpyxl
import pytest

from mammoscan.core.domain import Laterality, View
from mammoscan.core.errors import LabelError
from mammoscan.synthetic.dicom import FOR_PRESENTATION
from mammoscan.training.datasets import inbreast
from tests.training.datasets import made

HEAD = ("Patient ID", "Patient age", "Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads")
XLS_HEAD = (*HEAD, "Mass ", "Micros", "Distortion", "Asymmetry", "Findings Notes (in Portuguese)", "Other Notes",
            "Lesion Annotation Status", "Pectoral Muscle Annotation", "Other Annotations")  # fmt: skip
SHAPE = (400, 300)
AT = (120, 200, 160, 250)
HASH = "6c613a14b80a8591"


def _dicom(root, name="20586908", side="R", view="CC", at=AT, code=HASH):
    plane = np.full(SHAPE, 300, np.uint16)
    plane[at[1] : at[3], at[0] : at[2]] = 3500
    shown = {"MLO": "ML"}.get(view, view)  # the release's file names say ML for MLO
    return made.write_dicom(
        root / "AllDICOMs" / f"{name}_{code}_MG_{side}_{shown}_ANON.dcm", plane, side=side, view=view, spacing=0.07,
        sop_class=FOR_PRESENTATION,
    )  # fmt: skip


def _corners(at):
    x0, y0, x1, y1 = at
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _xml(root, rois, name="20586908"):
    document = {
        "Images": [
            {
                "ImageIndex": 0,
                "NumberOfROIs": len(rois),
                "ROIs": [
                    {
                        "Area": 1.0, "Center": "(0.0, 0.0, 0.0)", "IndexInImage": i, "Name": title,
                        "NumberOfPoints": len(points), "Point_px": [f"({x:f}, {y:f})" for x, y in points], "Type": 15,
                    }
                    for i, (title, points) in enumerate(rois)
                ],
            }
        ]
    }  # fmt: skip
    path = root / "AllXML" / f"{name}.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(plistlib.dumps(document))
    return path


def _line(name="20586908", side="R", view="CC", acr="3", birads="5"):
    return ("removed", "removed", side, view, "201001", name, acr, birads)


def _csv(root, *lines, head=HEAD):
    path = root / "INbreast.csv"
    (root / "AllXML").mkdir(exist_ok=True)  # as in the release, which has no file there for images without outlines
    path.write_text("".join(";".join(line) + "\n" for line in (head, *lines)), encoding="utf-8")
    return path


def _one(root, *, rois=None, **line):
    _dicom(root)
    _xml(root, [("Mass", _corners(AT))] if rois is None else rois)
    return _csv(root, _line(**line))


def test_a_contour_lies_where_the_image_is_bright(tmp_path):
    (film,) = inbreast.read(_one(tmp_path))
    assert film.findings() == (("malignant", AT),)
    assert made.bright(film.image().pixels) == AT
    assert made.bright(film.lesion_mask().astype(np.uint8)) == AT
    (lesion,) = film.lesions()
    assert (lesion.kind, lesion.assessment, lesion.size_mm) == ("mass", "5", pytest.approx(50 * 0.07))


def test_facts_come_from_the_table_and_the_patient_from_the_file_name(tmp_path):
    _dicom(tmp_path, view="MLO")
    _dicom(tmp_path, "20586934", side="L", code=HASH.upper())
    films = inbreast.read(_csv(tmp_path, _line(view="MLO", acr="     "), _line("20586934", "L", birads="1")))
    assert [f.header.view for f in films] == [View.MLO, View.CC]
    assert [f.header.laterality for f in films] == [Laterality.RIGHT, Laterality.LEFT]
    assert {f.patient for f in films} == {f"inbreast/{HASH}"}
    assert [f.density for f in films] == ["", "c"]
    assert [f.is_normal() for f in films] == [False, True]


def test_a_release_without_its_outlines_is_refused(tmp_path):
    _dicom(tmp_path)
    table = _csv(tmp_path, _line())
    (tmp_path / "AllXML").rmdir()
    with pytest.raises(LabelError, match="AllXML"):
        inbreast.read(table)


@pytest.mark.parametrize(
    ("birads", "label"),
    [("1", "normal"), ("2", "benign"), ("3", "benign"), ("4a", "malignant"), ("4B", "malignant"), ("4", "malignant"),
     ("5", "malignant"), ("6", "malignant")],
)  # fmt: skip
def test_the_label_follows_the_category(tmp_path, birads, label):
    assert inbreast.read(_one(tmp_path, birads=birads))[0].label == label


@pytest.mark.parametrize(
    ("title", "kind", "label"),
    [
        ("Mass", "mass", "malignant"),
        ("Spiculated Region", "mass", "malignant"),
        ("Espiculated Region", "mass", "malignant"),
        ("Cluster", "calcification", "malignant"),
        ("Distortion", "architectural distortion", "malignant"),
        ("Assymetry", "asymmetry", "malignant"),
        ("Calcification", "calcification", ""),
        ("Calcifications", "calcification", ""),
        ("Point 3", "", ""),
        ("Unnamed", "", ""),
    ],
)
def test_every_name_of_the_set_is_known(tmp_path, title, kind, label):
    (lesion,) = inbreast.read(_one(tmp_path, rois=((title, _corners(AT)),)))[0].lesions()
    assert (lesion.kind, lesion.label) == (kind, label)


def test_a_point_is_a_place_of_one_pixel_without_an_outline(tmp_path):
    (film,) = inbreast.read(_one(tmp_path, rois=(("Calcification", [(50.0, 60.0)]),)))
    assert film.occupied() == ((49.5, 59.5, 50.5, 60.5),)
    assert (film.findings(), film.outlines()) == ((), ())


def test_the_spicules_of_an_outlined_mass_are_no_second_lesion(tmp_path):
    (film,) = inbreast.read(
        _one(tmp_path, rois=(("Mass", _corners(AT)), ("Spiculated Region", _corners((100, 180, 180, 270)))))
    )
    assert film.findings() == (("malignant", AT),)
    assert len(film.occupied()) == 2


def test_an_outline_over_the_edge_ends_there(tmp_path):
    (film,) = inbreast.read(_one(tmp_path, rois=(("Mass", _corners((-5, 350, 30, 410))),)))
    assert film.occupied() == ((0.0, 350.0, 30.0, 400.0),)


def test_the_workbook_says_the_same_as_the_csv(tmp_path):
    """Numbers are stored as such, and notes stand below the films."""
    _dicom(tmp_path)
    _xml(tmp_path, [("Cluster", _corners(AT))])
    row = ["removed", "removed", "R", "CC", 201001.0, 20586908.0, 3.0, "4a", "X", "", "", "", "massa", "", "", "", ""]
    notes = ["", "", "", "", "", "", "", "", "X - present"]
    table = made.xls(tmp_path / "INbreast.xls", [XLS_HEAD, row, [], notes])
    assert inbreast.table_in(tmp_path) == table
    (film,) = inbreast.read(table)
    assert (film.name, film.density, film.label, film.row) == ("20586908", "c", "malignant", 2)
    assert film.findings() == (("malignant", AT),)
    table.unlink()
    book = openpyxl.Workbook()
    for values in (XLS_HEAD, row):
        book.active.append(values)
    book.save(tmp_path / "INbreast.xlsx")
    assert inbreast.read(inbreast.table_in(tmp_path))[0].findings() == (("malignant", AT),)


def test_an_error_in_the_workbook_has_its_row(tmp_path):
    _dicom(tmp_path)
    (tmp_path / "AllXML").mkdir()
    row = ["removed", "removed", "R", "CC", 201001.0, 20586908.0, 3.0, 2.0]
    table = made.xls(tmp_path / "INbreast.xls", [HEAD, row, [*row[:5], 20586909.0, 3.0, 9.0]])
    with pytest.raises(LabelError, match=r"INbreast.xls: row 3, column 'file_name'"):
        inbreast.read(table)
    table.write_bytes(b"no workbook")
    with pytest.raises(LabelError, match=r"INbreast.xls: the workbook cannot be read.*save it as CSV"):
        inbreast.read(table)


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ({"birads": "7"}, "bi_rads"),
        ({"birads": ""}, "bi_rads"),
        ({"acr": "9"}, "acr"),
        ({"side": "M"}, "laterality"),
        ({"view": "TOP"}, "view"),
        ({"name": "99999999"}, "file_name"),
        ({"name": ""}, "file_name"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, line, column):
    _dicom(tmp_path)
    _dicom(tmp_path, "20586934", side="L")
    table = _csv(tmp_path, _line("20586934", "L"), _line(**line))
    with pytest.raises(LabelError, match=rf"INbreast.csv: row 3, column '{column}'.*\(.+\)"):
        inbreast.read(table)


def test_a_film_listed_twice_is_named(tmp_path):
    _dicom(tmp_path)
    with pytest.raises(LabelError, match=r"row 3.*already in row 2"):
        inbreast.read(_csv(tmp_path, _line(), _line(birads="2")))


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(LabelError, match="columns missing: bi_rads"):
        inbreast.read(_csv(tmp_path, _line()[:-1], head=HEAD[:-1]))


def test_an_image_that_is_no_dicom_file_is_named(tmp_path):
    table = _one(tmp_path)
    next((tmp_path / "AllDICOMs").iterdir()).write_bytes(b"no image" * 100)
    with pytest.raises(LabelError, match=r"row 2, column 'file_name'.*cannot be read"):
        inbreast.read(table)


@pytest.mark.parametrize(
    ("rois", "text"),
    [
        ([("Tumour", _corners(AT))], "unknown name of an outline 'Tumour'"),
        ([("Mass", [])], "without Point_px"),
        ([("Mass", _corners((500, 500, 600, 600)))], "outside the image"),
    ],
)
def test_an_outline_that_cannot_be_used_is_named(tmp_path, rois, text):
    table = _one(tmp_path, rois=rois)
    with pytest.raises(LabelError, match=rf"20586908.xml: .*{text}.*row 2 of INbreast.csv"):
        inbreast.read(table)


@pytest.mark.parametrize("content", [b"<plist", b"<plist version='1.0'><array/></plist>"])
def test_a_broken_property_list_is_named(tmp_path, content):
    table = _one(tmp_path)
    (tmp_path / "AllXML" / "20586908.xml").write_bytes(content)
    with pytest.raises(LabelError, match=r"20586908.xml: no property list.*row 2 of INbreast.csv"):
        inbreast.read(table)


def test_a_miscounted_outline_and_a_broken_point_are_named(tmp_path):
    table = _one(tmp_path)
    xml = tmp_path / "AllXML" / "20586908.xml"
    content = xml.read_bytes()
    xml.write_bytes(content.replace(b"<integer>4</integer>", b"<integer>5</integer>"))
    with pytest.raises(LabelError, match="4 points, not 5"):
        inbreast.read(table)
    xml.write_bytes(content.replace(b"(120.000000, 200.000000)", b"(120.000000)"))
    with pytest.raises(LabelError, match=r"is not a point"):
        inbreast.read(table)
