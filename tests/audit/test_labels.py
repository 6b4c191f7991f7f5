"""Labels: what is read, and what is refused with its rows."""

import dataclasses
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mammoscan.audit import lesions
from mammoscan.audit.labels import Key, read_labels
from mammoscan.audit.lesions import Mark
from mammoscan.audit.match import build_regions, join
from mammoscan.audit.results import ImageResult, Results, read_results
from mammoscan.core.errors import LabelError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("heading", "row", "key", "value"),
    [
        ("SOPInstanceUID,label", "1.2.3,malignant", Key.SOP, ("1.2.3",)),
        ("file;cancer", "./a\\b.dcm;0", Key.PATH, ("a/b.dcm",)),
        ("patient_id,side,label", "P1,left,benign", Key.BREAST, ("P1", "L")),
        ("Patient ID,Laterality,View,label", "P1,R,mlo,normal", Key.VIEW, ("P1", "R", "MLO")),
        ("study_instance_uid,label", "1.9,yes", Key.STUDY, ("1.9",)),
        ("patient_id,label", "P1,1", Key.PATIENT, ("P1",)),
        ("id,label", "x,no", Key.ID, ("x",)),
    ],
)
def test_the_key_is_found_by_documented_names(tmp_path, heading, row, key, value):
    found = read_labels(write(tmp_path / "l.csv", f"{heading}\n{row}\n"))
    assert found.key is key
    assert found.labels[0].key == value


def test_other_headings_are_mapped(tmp_path):
    path = write(tmp_path / "l.csv", "Bild,Befund\n1.2,malignant\n")
    assert read_labels(path, {"sop_instance_uid": "Bild", "label": "Befund"}).labels[0].positive
    with pytest.raises(LabelError, match="no column 'Nichts'"):
        read_labels(path, {"label": "Nichts"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1.2,malignant,,,\n1.3,benign,,,\n1.2,malignant,,,", r"rows 2, 4 \(1.2\): duplicate"),
        ("1.2,malignant,,,\n1.2,benign,,,", r"rows 2, 3 \(1.2\): contradictory labels"),
        ("1.2,malignant,5,5,2\n1.2,malignant,5,5,2", r"rows 2, 3 \(1.2\): the same location twice"),
        ("1.2,perhaps,,,", "row 2: label 'perhaps' is none of"),
        ("1.2,malignant,5,,2", "row 2: a location needs x, y and radius"),
        ("1.2,malignant,5,5,0", "row 2: radius must be above 0"),
        ("1.2,malignant,5,nan5,2", "row 2: y 'nan5' is not a number"),
        (",malignant,,,", "row 2: sop_instance_uid is empty"),
    ],
)
def test_bad_rows_are_errors_that_name_them(tmp_path, rows, message):
    path = write(tmp_path / "l.csv", f"sop_instance_uid,label,x,y,radius\n{rows}\n")
    with pytest.raises(LabelError, match=message):
        read_labels(path)


def test_several_located_rows_are_several_lesions(tmp_path):
    text = "sop_instance_uid,label,x,y,radius\n1.2,malignant,5,5,2\n1.2,malignant,50,50,4\n1.2,benign,90,9,3\n"
    (label,) = read_labels(write(tmp_path / "l.csv", text)).labels
    assert (label.positive, label.located, len(label.lesions), len(label.other_lesions)) == (True, True, 2, 1)
    assert label.rows == (2, 3, 4)


def test_two_columns_of_one_meaning_are_an_error(tmp_path):
    with pytest.raises(LabelError, match="could both be label"):
        read_labels(write(tmp_path / "l.csv", "id,truth,cancer\na,1,0\n"))


def test_a_small_mark_in_the_lesion_hits_and_a_huge_one_over_it_does_not():
    lesion = lesions.circle(100, 100, 10)
    assert lesions.hits(Mark("1", (105, 100), None, None, 0.5), lesion)
    assert lesions.hits(Mark("1", (115, 100), (90, 80, 140, 120), 900, 0.5), lesion)
    assert not lesions.hits(Mark("1", (300, 300), (0, 0, 600, 600), 360000, 0.5), lesion)
    assert not lesions.hits(Mark("1", (111, 100), None, None, 0.5), lesion)


def test_a_mask_is_hit_only_where_it_is_set():
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 30:50] = True
    mask[12:18, 35:45] = False
    lesion = lesions.from_mask(mask)
    assert lesion.box == (30, 10, 50, 20)
    assert lesion.contains(31.5, 11.5)
    assert not lesion.contains(40, 15)
    assert not lesion.contains(29.9, 15)
    assert lesion.area == mask.sum()


def test_a_file_that_is_no_segmentation_is_refused(tmp_path):
    path = write(tmp_path / "x.dcm", "nothing")
    with pytest.raises(LabelError, match="cannot be read"):
        lesions.from_seg(path)


def segmentation(path, image_uid, boxes, shape=(40, 60)):
    """A DICOM SEG of one image with one segment a box (x0, y0, x1, y1)."""
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    image.SOPInstanceUID, image.StudyInstanceUID, image.SeriesInstanceUID = image_uid, generate_uid(), generate_uid()
    for name in "PatientID PatientName PatientBirthDate PatientSex AccessionNumber StudyID StudyDate StudyTime".split():
        setattr(image, name, "")
    image.ReferringPhysicianName = ""
    image.Modality, image.Rows, image.Columns = "MG", *shape
    image.SamplesPerPixel, image.BitsAllocated, image.PhotometricInterpretation = 1, 16, "MONOCHROME2"
    image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
    image.PatientOrientation = ["P", "L"]
    image.ImagerPixelSpacing = [0.1, 0.1]
    masks = np.zeros((1, *shape, len(boxes)), dtype=np.uint8)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        masks[0, y0:y1, x0:x1, number] = 1
    descriptions = [
        SegmentDescription(n, f"mass {n}", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "MANUAL")
        for n in range(1, len(boxes) + 1)
    ]
    seg = Segmentation([image], masks, "BINARY", descriptions, generate_uid(), 1, generate_uid(), 1, "m", "m", "1", "1")
    seg.save_as(path)
    return path


def test_each_segment_of_a_dicom_segmentation_is_a_lesion(tmp_path):
    path = segmentation(tmp_path / "truth.dcm", "1.2.3", [(30, 10, 50, 20), (5, 5, 9, 12)])
    first, second = lesions.from_seg(path)["1.2.3"]
    assert (first.box, first.area) == ((30, 10, 50, 20), 200)
    assert (second.box, second.area) == ((5, 5, 9, 12), 28)


def result(sop, **more):
    facts = {
        "path": f"{sop}.dcm",
        "patient_id": "P",
        "study_instance_uid": "1.9",
        "laterality": "L",
        "view": "CC",
    } | more
    return ImageResult(
        id=sop, sop_instance_uid=sop, score=0.5, classes=None, density="", age=None, manufacturer="", year="",
        folder="", **facts,
    )  # fmt: skip


def results(*images):
    return Results("r", Path("r"), images, {}, {}, has_marks=True, archive=None, model="")


def test_lesions_of_a_segmentation_belong_to_the_image_that_it_names(tmp_path):
    segmentation(tmp_path / "s.dcm", "1.2.3", [(30, 10, 50, 20)])
    text = "sop_instance_uid,label,seg\n1.2.3,malignant,s.dcm\n1.2.4,normal,\n"
    labels = read_labels(write(tmp_path / "l.csv", text))
    marked = dataclasses.replace(result("1.2.3"), marks=(Mark("1", (40, 15), None, None, 0.7),))
    joined = join(labels, results(marked, result("1.2.4")))
    assert [len(p.lesions) for p in joined.pairs] == [1, 0]
    regions = build_regions(joined)
    assert (regions.lesions, regions.marks.lesion_scores.tolist(), regions.left_out) == (1, [0.7], 0)


@pytest.mark.parametrize(
    ("seg", "message"),
    [
        ("s.dcm", "row 2: the segmentation outlines nothing in 1.2.4"),
        ("none.dcm", "row 2: the segmentation cannot be read"),
    ],
)
def test_a_segmentation_that_does_not_fit_is_an_error_with_its_row(tmp_path, seg, message):
    segmentation(tmp_path / "s.dcm", "1.2.3", [(30, 10, 50, 20)])
    labels = read_labels(write(tmp_path / "l.csv", f"sop_instance_uid,label,seg\n1.2.4,malignant,{seg}\n"))
    with pytest.raises(LabelError, match=message):
        join(labels, results(result("1.2.4")))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("laterality", "R", "row 2 says laterality 'R', the result 1.2.dcm 'L'"),
        ("view", "mlo", "row 2 says view 'MLO', the result 1.2.dcm 'CC'"),
        ("study_instance_uid", "1.8", "row 2 says study_instance_uid '1.8'"),
    ],
)
def test_a_label_that_contradicts_its_result_is_an_error_with_its_row(tmp_path, column, value, message):
    labels = read_labels(write(tmp_path / "l.csv", f"sop_instance_uid,label,{column}\n1.2,malignant,{value}\n"))
    with pytest.raises(LabelError, match=message):
        join(labels, results(result("1.2")))


def test_what_a_result_does_not_know_contradicts_nothing(tmp_path):
    labels = read_labels(write(tmp_path / "l.csv", "sop_instance_uid,label,laterality\n1.2,malignant,R\n"))
    assert len(join(labels, results(result("1.2", laterality=""))).pairs) == 1


def test_an_identifier_that_fits_two_results_is_an_error_with_its_row(tmp_path):
    labels = read_labels(write(tmp_path / "l.csv", "path,label\na.dcm,malignant\n"))
    with pytest.raises(LabelError, match=r"'a.dcm' \(row 2\) fits 2 results"):
        join(labels, results(result("1.2", path="a.dcm"), result("1.3", path="a.dcm")))


def test_two_labels_of_one_result_are_an_error_with_the_row(tmp_path):
    labels = read_labels(write(tmp_path / "l.csv", "id,label\n1.2,malignant\n1.2.dcm,benign\n"))
    with pytest.raises(LabelError, match=r"'1.2' fits two labels \(row 3\)"):
        join(labels, results(result("1.2")))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1.2,malignant,5,5,2,a,60\n1.2,malignant,50,50,4,b,60", r"rows 2, 3 \(1.2\): contradictory density"),
        ("1.2,malignant,5,5,2,a,60\n1.2,malignant,50,50,4,a,61", r"rows 2, 3 \(1.2\): contradictory age"),
        ("1.2,malignant,5,5,2,e,60", "row 2: density 'e' is none of a to d or 1 to 4"),
        ("1.2,malignant,5,5,2,a,old", "row 2: age 'old' is not a number"),
        ("1.2,malignant,5,5,2,a,60\n1.2,normal,,,,a,60", r"rows 2, 3 \(1.2\): contradictory labels"),
    ],
)
def test_bad_facts_are_errors_that_name_their_rows(tmp_path, rows, message):
    with pytest.raises(LabelError, match=message):
        read_labels(write(tmp_path / "l.csv", f"sop_instance_uid,label,x,y,radius,density,age\n{rows}\n"))


def test_a_box_needs_its_four_corners_in_order(tmp_path):
    head = "id,label,x0,y0,x1,y1\n"
    assert read_labels(write(tmp_path / "a.csv", head + "a,1,2,3,8,9\n")).labels[0].lesions[0].box == (2, 3, 8, 9)
    for row, message in (("a,1,2,3,8,", "needs x0, y0, x1 and y1"), ("a,1,8,3,2,9", "x0 < x1")):
        with pytest.raises(LabelError, match=message):
            read_labels(write(tmp_path / "b.csv", head + row + "\n"))


def test_no_column_that_names_a_case_or_a_label_is_an_error_with_the_remedy(tmp_path):
    with pytest.raises(LabelError, match="no column says which case"):
        read_labels(write(tmp_path / "a.csv", "label\n1\n"))
    with pytest.raises(LabelError, match="--column label=HEADING"):
        read_labels(write(tmp_path / "b.csv", "id\na\n"))


def test_scores_by_patient_and_side_need_no_identifier_of_an_image(tmp_path):
    path = write(tmp_path / "s.csv", "patient_id,side,score\nP1,L,0.2\nP1,R,0.7\nP2,L,0.1\n")
    found = read_results(path)
    assert [i.id for i in found.images] == ["P1 L", "P1 R", "P2 L"]
    labels = read_labels(write(tmp_path / "l.csv", "patient_id,laterality,label\nP1,R,1\nP2,L,0\nP1,L,0\n"))
    joined = join(labels, found)
    assert {(p.image.id, p.label.positive) for p in joined.pairs} == {("P1 L", False), ("P1 R", True), ("P2 L", False)}
    with pytest.raises(LabelError, match="rows 2 and 3: the same image P1 L"):
        read_results(write(tmp_path / "d.csv", "patient_id,side,score\nP1,L,0.2\nP1,L,0.7\n"))


@pytest.mark.parametrize(
    ("head", "rows"),
    [
        ("patient_id,laterality,view,label", ["P,L,CC,malignant", "P,L,CC,malignant"]),
        ("patient_id,laterality,label", ["P,L,benign", "P,L,benign", "P,L,benign"]),
        ("patient_id,label", ["P,normal", "P,normal"]),
        ("study_instance_uid,label", ["1.9,malignant", "1.9,malignant"]),
    ],
)
def test_a_label_repeated_for_each_image_is_merged(tmp_path, head, rows):
    labels = read_labels(write(tmp_path / "l.csv", "\n".join([head, *rows])))
    (label,) = labels.labels
    assert label.rows == tuple(range(2, 2 + len(rows)))
    joined = join(labels, results(result("1.2"), result("1.3")))
    assert [(p.image.id, p.label) for p in joined.pairs] == [("1.2", label), ("1.3", label)]


@pytest.mark.parametrize("head", ["patient_id,laterality,view", "patient_id,laterality", "patient_id"])
def test_a_view_with_two_different_labels_is_an_error_with_both_rows(tmp_path, head):
    key = ",".join(["P", "L", "CC"][: head.count(",") + 1])
    with pytest.raises(LabelError, match=r"rows 2, 3 .*: contradictory labels"):
        read_labels(write(tmp_path / "l.csv", f"{head},label\n{key},malignant\n{key},benign\n"))


def test_one_located_row_of_a_view_with_two_images_leaves_its_cancer_unlocated(tmp_path):
    text = "patient_id,laterality,view,label,x,y,radius\nP,L,CC,malignant,5,5,2\nP,L,CC,malignant,,,\n"
    (label,) = read_labels(write(tmp_path / "l.csv", text)).labels
    assert (label.positive, label.located, len(label.lesions)) == (True, False, 1)


def test_rows_of_two_studies_each_agree_with_their_own(tmp_path):
    text = "patient_id,laterality,view,study_instance_uid,label\nP,L,CC,1.8,benign\nP,L,CC,1.9,benign\n"
    labels = read_labels(write(tmp_path / "l.csv", text))
    joined = join(labels, results(result("1.2", study_instance_uid="1.8"), result("1.3")))
    assert len(joined.pairs) == 2
    with pytest.raises(LabelError, match=r"study_instance_uid '1\.8'"):
        join(labels, results(result("1.4", study_instance_uid="1.7")))


def test_a_number_that_lost_its_zeros_is_matched_and_said(tmp_path):
    labels = read_labels(write(tmp_path / "l.csv", "patient_id,side,label\n123,L,malignant\n9,L,benign\n"))
    joined = join(labels, results(result("1.2", patient_id="00123"), result("1.3", patient_id="9")))
    assert [(p.image.id, p.label.positive) for p in joined.pairs] == [("1.2", True), ("1.3", False)]
    assert joined.notes == (
        "matched though leading zeros differ, as spreadsheets drop them: row 2: patient_id '123' is '00123'",
    )


@pytest.mark.parametrize("other", ["0123", "123"])
def test_a_number_that_could_be_two_patients_is_refused_with_both(tmp_path, other):
    labels = read_labels(write(tmp_path / "l.csv", "patient_id,label\n123,malignant\n"))
    two = results(result("1.2", patient_id="00123"), result("1.3", patient_id=other))
    with pytest.raises(
        LabelError, match=rf"row 2: patient_id '123' could be '00123' \(1.2.dcm\) or '{other}' \(1.3.dcm\)"
    ):
        join(labels, two)


def test_a_table_that_shows_zeros_means_its_numbers_as_they_are(tmp_path):
    labels = read_labels(write(tmp_path / "l.csv", "patient_id,label\n123,malignant\n00123,benign\n09,benign\n"))
    both = join(labels, results(result("1.2", patient_id="00123"), result("1.3", patient_id="123")))
    assert {(p.image.id, p.label.positive) for p in both.pairs} == {("1.2", False), ("1.3", True)}
    one = join(labels, results(result("1.2", patient_id="00123")))
    assert [(label.key, why) for label, why in one.unmatched_labels] == [
        (("123",), "no such result; '00123' differs in leading zeros"),
        (("09",), "no such result"),
    ]


@pytest.mark.parametrize(
    ("head", "value", "why"),
    [
        ("sop_instance_uid", "1.28E+25", "is what a spreadsheet left of a longer number; format the column as text"),
        ("study_instance_uid", "1,2E+15", "is what a spreadsheet left"),
        ("patient_id", "#N/A", "is a spreadsheet's error"),
    ],
)
def test_an_identifier_that_a_spreadsheet_destroyed_is_refused_with_its_row(tmp_path, head, value, why):
    with pytest.raises(LabelError, match=f"row 3: {head} '{value.replace('+', '.')}' {why}"):
        read_labels(write(tmp_path / "l.csv", f"{head};label\nx;1\n{value};0\n"))
    with pytest.raises(LabelError, match=f"row 3: {head} "):
        read_results(write(tmp_path / "s.csv", f"{head};score\nx;1\n{value};0\n"))


def test_decimal_commas_are_read_in_labels_and_scores(tmp_path):
    head = "id;label;x;y;radius;age\n"
    (label,) = read_labels(write(tmp_path / "l.csv", head + "a;malignant;5,5;10;2,25;60\n")).labels
    assert (label.lesions[0].centre, label.lesions[0].radius) == ((5.5, 10.0), 2.25)
    found = read_results(write(tmp_path / "s.csv", "id;score;age\na;0,437;60,5\nb;1,2E-3;\n"))
    assert [(i.score, i.age) for i in found.images] == [(0.437, 60.5), (0.0012, None)]
    for text, message in (
        ("id,score\na,0,437\n", "row 2: 3 cells under 2 headings"),
        ("id;score\na;0,437\nb;0.5\n", "row 2: score '0,437' has a comma, and row 3: score '0.5' a point"),
        ("id;score\na;1,437\n", "row 2: score '1,437' may be a decimal number or a thousand"),
    ):
        with pytest.raises(LabelError, match=message):
            read_results(write(tmp_path / "s.csv", text))
