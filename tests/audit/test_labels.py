"""Labels: what is read, and what is refused with its rows."""

import numpy as np
import pydicom
import pytest

from mammoscan.audit import lesions
from mammoscan.audit.labels import Key, read_labels
from mammoscan.audit.lesions import Mark
from mammoscan.errors import LabelError


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


def test_lesions_are_read_from_a_dicom_segmentation(tmp_path):
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(image, name, generate_uid())
    for name in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
    ):
        setattr(image, name, "")
    image.ReferringPhysicianName = ""
    image.Modality, image.Rows, image.Columns = "MG", 40, 60
    image.SamplesPerPixel, image.BitsAllocated, image.PhotometricInterpretation = 1, 16, "MONOCHROME2"
    image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
    image.PatientOrientation = ["P", "L"]
    image.ImagerPixelSpacing = [0.1, 0.1]
    mask = np.zeros((1, 40, 60), dtype=np.uint8)
    mask[0, 10:20, 30:50] = 1
    description = SegmentDescription(
        1, "mass", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "MANUAL"
    )
    seg = Segmentation(
        [image],
        mask,
        "BINARY",
        [description],
        generate_uid(),
        1,
        generate_uid(),
        1,
        "maker",
        "model",
        "1",
        "1",
    )
    path = tmp_path / "truth.dcm"
    seg.save_as(path)
    found = lesions.from_seg(path)
    assert found[image.SOPInstanceUID].box == (30, 10, 50, 20)
    assert found[image.SOPInstanceUID].area == 200
