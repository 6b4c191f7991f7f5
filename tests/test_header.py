"""Facts of a header, strictly; and the rules that decide about its file."""

import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr._snomed_dict import mapping
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mammoscan import codes, dicomfile, header, rules
from mammoscan.config import SWITCHABLE, AnalysisConfig
from mammoscan.domain import (
    AgeSource,
    Failed,
    Flag,
    Header,
    Laterality,
    Skipped,
    SourceFile,
    SpacingSource,
    View,
)
from mammoscan.errors import InputError, Reason
from mammoscan.synthetic.dicom import Subject, file_bytes, mammogram_dataset

INCLUDE = AnalysisConfig().include


def _dataset(**changes):
    ds = mammogram_dataset(
        np.full((300, 300), 100, np.uint16), laterality=Laterality.LEFT, view=View.CC, subject=Subject("P1", "Demo^A")
    )
    for keyword, value in changes.items():
        if value is None:
            if keyword in ds:
                del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def _facts(tmp_path, **changes):
    return header.parse_header(_dataset(**changes), SourceFile(tmp_path / "x", "x", 1, 0))


def _read(path, *, include=INCLUDE, settle=0.0, now=None):
    status = path.stat()
    file = SourceFile(path, path.name, status.st_size, status.st_mtime_ns)
    return header.read_header(file, include=include, settle_seconds=settle, now=now or time.time() + 100)


def _written(tmp_path, name="a", **changes):
    path = tmp_path / name
    path.write_bytes(file_bytes(_dataset(**changes)))
    return path


def _code(value, scheme, meaning="x"):
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
    return ds


@pytest.mark.parametrize(
    ("text", "years"), [("061Y", 61), ("006M", 0.5), ("026W", 0.5), ("120Y", 120), ("001D", 1 / 365.25)]
)
def test_a_valid_age_is_read(tmp_path, text, years):
    facts = _facts(tmp_path, PatientAge=text, PatientBirthDate="")
    assert facts.age.years == pytest.approx(years, rel=0.01)
    assert facts.age.source is AgeSource.PATIENT_AGE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("text", ["60Y", "60", "0060Y", "000Y", "999Y", "121Y", "06OY", "061y"])
def test_an_invalid_age_stays_unknown_and_is_flagged(tmp_path, text):
    facts = _facts(tmp_path, PatientAge=text, PatientBirthDate="")
    assert facts.age is None
    assert facts.patient.age_string == ""
    assert Flag.AGE_INVALID in facts.flags


def test_age_is_counted_in_whole_years_from_the_dates(tmp_path):
    facts = _facts(tmp_path, PatientAge=None, PatientBirthDate="19600311", StudyDate="20250310")
    assert facts.age.years == 64
    assert facts.age.source is AgeSource.BIRTH_AND_STUDY_DATE


def test_two_ages_that_disagree_are_flagged(tmp_path):
    facts = _facts(tmp_path, PatientAge="050Y", PatientBirthDate="19600311")
    assert facts.age.years == 50
    assert Flag.AGE_CONFLICT in facts.flags


@pytest.mark.parametrize(
    ("image", "side"), [("L", "L"), ("r", "R"), ("B", "B"), ("U", "unknown"), ("left breast", "unknown")]
)
def test_laterality_matches_whole_values(tmp_path, image, side):
    assert _facts(tmp_path, ImageLaterality=image, Laterality=None).laterality.value == side


def test_contradicting_lateralities_leave_the_side_unknown(tmp_path):
    facts = _facts(tmp_path, ImageLaterality="L", Laterality="R")
    assert facts.laterality is Laterality.UNKNOWN
    assert Flag.LATERALITY_CONFLICT in facts.flags


@pytest.mark.parametrize(("value", "scheme"), [("399368009", "SCT"), ("R-10226", "SRT"), ("R-10226", "SNM3")])
def test_views_are_read_in_old_and_new_codes(tmp_path, value, scheme):
    facts = _facts(tmp_path, ViewCodeSequence=Sequence([_code(value, scheme)]), ViewPosition=None)
    assert facts.view is View.MLO


def test_ml_is_not_mlo_and_an_unknown_code_stays_unknown(tmp_path):
    assert _facts(tmp_path, ViewCodeSequence=None, ViewPosition="ML").view is View.ML
    unknown = Sequence([_code("399368009", "99LOCAL")])
    assert _facts(tmp_path, ViewCodeSequence=unknown, ViewPosition=None).view is View.UNKNOWN


@pytest.mark.parametrize(
    ("modifier", "reason", "switch"),
    [("399055006", Reason.SPOT, "spot"), ("R-102D6", Reason.MAGNIFICATION, "magnification")],
)
def test_spot_and_magnification_views_are_skipped_unless_switched_on(tmp_path, modifier, reason, switch):
    item = _code("399162004", "SCT")
    item.ViewModifierCodeSequence = Sequence([_code(modifier, "SCT" if modifier.isdigit() else "SRT")])
    path = _written(tmp_path, ViewCodeSequence=Sequence([item]))
    assert _read(path).reason is reason
    assert isinstance(_read(path, include=(*INCLUDE, switch)), Header)


def test_an_implant_is_flagged_and_can_be_excluded(tmp_path):
    path = _written(tmp_path, BreastImplantPresent="YES")
    assert Flag.IMPLANT in _read(path).flags
    assert _read(path, include=()).reason is Reason.IMPLANT


def test_imager_spacing_is_corrected_for_magnification(tmp_path):
    facts = _facts(
        tmp_path, ImagerPixelSpacing=[0.1, 0.1], PixelSpacing=None, EstimatedRadiographicMagnificationFactor=1.25
    )
    assert facts.spacing.row_mm == pytest.approx(0.08)
    assert facts.spacing.source is SpacingSource.IMAGER_CORRECTED
    assert _facts(tmp_path, ImagerPixelSpacing=None, PixelSpacing=None).spacing is None


def test_unknown_stays_unknown(tmp_path):
    facts = _facts(
        tmp_path, PatientAge=None, PatientBirthDate="", ImageLaterality=None, Laterality=None, ViewCodeSequence=None,
        ViewPosition=None, ImagerPixelSpacing=None, PixelSpacing=None, Manufacturer="", BreastImplantPresent=None,
    )  # fmt: skip
    assert facts.age is None
    assert facts.laterality is Laterality.UNKNOWN
    assert facts.view is View.UNKNOWN
    assert facts.implant is None
    assert facts.manufacturer == ""
    assert facts.density is None


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SOPInstanceUID"])
def test_a_mammogram_without_identity_fails(tmp_path, name):
    result = _read(_written(tmp_path, **{name: ""}) if name == "StudyInstanceUID" else _cut_uid(tmp_path))
    assert isinstance(result, Failed)
    assert result.reason is Reason.MISSING_UID


def _cut_uid(tmp_path):
    ds = _dataset()
    path = tmp_path / "b"
    path.write_bytes(file_bytes(ds).replace(ds.SOPInstanceUID.encode(), b"x" * len(ds.SOPInstanceUID)))
    return path


def test_text_is_no_dicom_and_an_empty_file_is_named_so(tmp_path):
    (tmp_path / "a.dcm").write_text("not an image")
    (tmp_path / "b.dcm").write_bytes(b"")
    assert _read(tmp_path / "a.dcm").reason is Reason.NOT_DICOM
    assert _read(tmp_path / "b.dcm").reason is Reason.EMPTY_FILE


def test_a_file_that_was_just_changed_is_still_being_written(tmp_path):
    path = _written(tmp_path)
    assert _read(path, settle=60, now=path.stat().st_mtime + 1).reason is Reason.STILL_WRITTEN


def test_deeply_nested_sequences_fail_without_an_end_of_the_run(tmp_path):
    inner = Dataset()
    for _ in range(400):
        outer = Dataset()
        outer.ContentSequence = Sequence([inner])
        inner = outer
    content = b"\xfe\xff\x00\xe0" * 3000
    ds = _dataset()
    raw = file_bytes(ds)
    nested = b"\x40\x00\x30\xa7SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b""
    start = raw.index(b"\x08\x00\x05\x00CS")
    path = tmp_path / "deep"
    path.write_bytes(raw[:start] + (nested * 3000) + content)
    result = _read(path)
    assert isinstance(result, Failed)
    assert result.reason is Reason.BROKEN_HEADER


def _deflated(tmp_path, name, **changes):
    ds = mammogram_dataset(
        np.zeros((400, 400), np.uint16), laterality=Laterality.LEFT, view=View.CC, subject=Subject("P"),
        transfer_syntax=DeflatedExplicitVRLittleEndian,
    )  # fmt: skip
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    path = tmp_path / name
    path.write_bytes(file_bytes(ds))
    return path


def test_a_deflate_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dicomfile, "MOST_INFLATED", 50_000)
    result = _read(_deflated(tmp_path, "bomb", PatientComments="x" * 60_000))
    assert isinstance(result, Failed)
    assert "inflates" in result.detail


def test_a_deflated_header_is_read_without_its_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(dicomfile, "MOST_INFLATED", 50_000)  # less than the pixels
    assert isinstance(_read(_deflated(tmp_path, "whole")), Header)


# --------------------------------------------------------------------------- reading


SAMPLES = sorted(
    p for p in (Path(pydicom.__file__).parent / "data").rglob("*") if p.is_file() and p.suffix not in {".py", ".pyc"}
)


@pytest.mark.filterwarnings("ignore")
def test_every_sample_of_pydicom_is_read_as_pydicom_reads_it():
    """Explicit and implicit, both byte orders, deflated, nested, several character sets, no preamble."""
    compared = 0
    for path in SAMPLES:
        status = path.stat()
        try:
            mine = dicomfile.read_header_dataset(SourceFile(path, path.name, status.st_size, status.st_mtime_ns))
        except InputError as error:
            expected = Reason.ARCHIVE if path.name.startswith("zip") else Reason.NOT_DICOM
            assert error.reason is expected or "truncated" in path.name, path.name  # noqa: PT017 only some files fail
            continue
        theirs = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        wanted = [tag for tag in theirs.keys() if tag <= 0x52FFFFFF]  # noqa: SIM118 - iterating gives elements
        assert list(mine.keys()) == wanted, path.name
        assert all(mine[tag] == theirs[tag] for tag in wanted), path.name
        compared += 1
    assert compared > 100


def test_a_file_cut_anywhere_in_its_header_never_counts_as_a_whole_one(tmp_path):
    whole = file_bytes(_dataset())
    end = whole.index(b"\xe0\x7f\x10\x00")
    reasons = set()
    for length in range(133, end, 7):
        (tmp_path / "cut").write_bytes(whole[:length])
        result = _read(tmp_path / "cut")
        if isinstance(result, Header):  # cut between two elements: what was read is whole
            assert result.sop_instance_uid in whole.decode("latin-1")
            assert result.study.study_instance_uid == _dataset().StudyInstanceUID
        else:
            reasons.add(result.reason)
    assert reasons <= {Reason.BROKEN_HEADER, Reason.MISSING_UID, Reason.OTHER_MODALITY, Reason.NOT_DICOM}
    assert Reason.BROKEN_HEADER in reasons


def test_a_file_without_preamble_is_read_and_text_that_begins_alike_is_not(tmp_path):
    whole = file_bytes(_dataset())
    (tmp_path / "bare").write_bytes(whole[132:])
    assert isinstance(_read(tmp_path / "bare"), Header)
    (tmp_path / "alike").write_bytes(b"\x08\x00\x05\x00" + b"no data set at all, only its first four bytes" * 9)
    assert _read(tmp_path / "alike").reason in {Reason.NOT_DICOM, Reason.BROKEN_HEADER}


def test_names_in_other_scripts_are_decoded(tmp_path):
    path = _written(tmp_path, SpecificCharacterSet="ISO_IR 192", PatientName="山田^太郎", StudyDescription="乳房")
    found = _read(path)
    assert found.patient.name == "山田^太郎"
    assert found.study.study_description == "乳房"
    path = _written(tmp_path, SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎")
    assert _read(path).patient.name == "Yamada^Tarou=山田^太郎"


def test_a_file_from_the_future_is_read_and_one_of_just_now_is_not(tmp_path):
    path = _written(tmp_path)
    written = path.stat().st_mtime
    assert isinstance(_read(path, settle=2, now=written - 86_400), Header)
    assert _read(path, settle=2, now=written - 1).reason is Reason.STILL_WRITTEN
    (tmp_path / "young").write_bytes(b"")
    assert _read(tmp_path / "young", settle=60, now=time.time()).reason is Reason.STILL_WRITTEN


def test_a_file_that_changes_while_it_is_read_is_still_being_written(tmp_path):
    path = _written(tmp_path)
    file = SourceFile(path, "a", path.stat().st_size, 1)
    assert header.read_header(file, include=(), settle_seconds=0, now=9e9).reason is Reason.STILL_WRITTEN


def test_an_unreadable_file_is_named_so(tmp_path):
    file = SourceFile(tmp_path / "gone", "gone", 10, 1)
    assert header.read_header(file, include=(), settle_seconds=0, now=9e9).reason is Reason.UNREADABLE


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_a_file_raises(tmp_path, data):
    whole = bytearray(file_bytes(_dataset())[:4000])
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "hurt").write_bytes(bytes(whole))
    assert isinstance(_read(tmp_path / "hurt"), (Header, Skipped, Failed))


@given(content=st.binary(max_size=600))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_raises(tmp_path, content):
    (tmp_path / "any").write_bytes(b"\x00" * 128 + b"DICM" + content)
    assert isinstance(_read(tmp_path / "any"), (Header, Skipped, Failed))


# --------------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("sop_class", "modality", "reason"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", "CT", Reason.OTHER_MODALITY),
        ("1.2.840.10008.5.1.4.1.1.7", "", Reason.OTHER_MODALITY),
        (header.TOMOSYNTHESIS, "MG", Reason.TOMOSYNTHESIS),
        (header.PROJECTIONS[0], "MG", Reason.TOMOSYNTHESIS),
        ("1.2.840.10008.5.1.4.1.1.11.1", "MG", Reason.NOT_AN_IMAGE),
        (header.FOR_PROCESSING, "MG", Reason.FOR_PROCESSING),
        ("1.2.840.10008.5.1.4.1.1.1.1.1", "MG", Reason.FOR_PROCESSING),
    ],
)
def test_other_objects_are_skipped_by_their_rule(tmp_path, sop_class, modality, reason):
    assert _read(_written(tmp_path, SOPClassUID=sop_class, Modality=modality)).reason is reason


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1"])
def test_mammograms_of_older_classes_are_analysed(tmp_path, sop_class):
    assert isinstance(_read(_written(tmp_path, SOPClassUID=sop_class)), Header)


def test_a_mammography_class_needs_no_modality(tmp_path):
    assert isinstance(_read(_written(tmp_path, Modality="")), Header)


FILM = {"SOPClassUID": header.SECONDARY_CAPTURE, "PresentationIntentType": None}


def test_a_film_scan_with_few_attributes_is_analysed_and_flagged(tmp_path):
    bare = dict.fromkeys(("ImageLaterality", "Laterality", "ViewCodeSequence", "ViewPosition", "ImageType"))
    found = _read(_written(tmp_path, **FILM, **bare, BurnedInAnnotation=None, ConversionType="WSD"))
    assert isinstance(found, Header)
    assert Flag.SECONDARY_CAPTURE in found.flags


@pytest.mark.parametrize(
    "changes",
    [
        {"Rows": 100},
        {"SamplesPerPixel": 3},
        {"ImageType": ["DERIVED", "PRIMARY", "LOCALIZER"]},
        {"SeriesDescription": "Density Scorecard"},
        {"SeriesDescription": "ROI mask images"},
        {**FILM, "BurnedInAnnotation": "YES", "ImageLaterality": None, "Laterality": None, "ViewCodeSequence": None,
         "ViewPosition": None},
    ],
)  # fmt: skip
def test_pictures_that_are_no_mammograms_are_scorecards(tmp_path, changes):
    assert _read(_written(tmp_path, **changes)).reason is Reason.SCORECARD


def test_more_than_one_frame_and_specimens_are_skipped(tmp_path):
    assert _read(_written(tmp_path, NumberOfFrames=2)).reason is Reason.MULTIFRAME
    specimen = Sequence([_code("127457009", "SCT")])
    assert _read(_written(tmp_path, ViewCodeSequence=specimen)).reason is Reason.SPECIMEN


def test_every_switch_of_the_configuration_belongs_to_a_rule():
    assert tuple(rule.switch for rule in rules.SWITCHABLE) == SWITCHABLE
    assert set(INCLUDE) == {rule.switch for rule in rules.SWITCHABLE if rule.analysed}
    assert {Flag(rule.code).value for rule in rules.SWITCHABLE} == {rule.code for rule in rules.SWITCHABLE}


def test_a_spacing_that_repeats_the_detector_is_not_taken_for_calibrated(tmp_path):
    same = {
        "ImagerPixelSpacing": [0.1, 0.1],
        "PixelSpacing": [0.1, 0.1],
        "EstimatedRadiographicMagnificationFactor": 1.25,
    }
    assert _facts(tmp_path, **same).spacing.source is SpacingSource.IMAGER_CORRECTED
    calibrated = _facts(tmp_path, **same, PixelSpacingCalibrationType="GEOMETRY").spacing
    assert (calibrated.row_mm, calibrated.source) == (0.1, SpacingSource.PIXEL_SPACING)
    assert _facts(tmp_path, ImagerPixelSpacing=[0, 0], PixelSpacing=None).spacing is None


def test_dates_that_contradict_each_other_give_no_age(tmp_path):
    facts = _facts(tmp_path, PatientAge=None, PatientBirthDate="20300101", StudyDate="20250310")
    assert facts.age is None
    assert Flag.AGE_INVALID in facts.flags


def test_side_of_a_multiframe_object_is_read_from_its_groups(tmp_path):
    group, anatomy = Dataset(), Dataset()
    anatomy.FrameLaterality = "R"
    group.FrameAnatomySequence = Sequence([anatomy])
    groups = Sequence([group])
    facts = _facts(tmp_path, ImageLaterality=None, Laterality=None, SharedFunctionalGroupsSequence=groups)
    assert facts.laterality is Laterality.RIGHT


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("written", ["abc", "1_000", "٣", "1.5", "99999999999999"])
def test_an_invalid_number_is_unknown_and_ends_nothing(tmp_path, written):
    raw = file_bytes(_dataset(InstanceNumber="123456"))
    value = written.encode()[:6].ljust(6)
    path = tmp_path / "n"
    path.write_bytes(raw.replace(b"123456", value, 1))
    found = _read(path)
    assert isinstance(found, Header)
    assert found.instance_number == (None if not value.decode(errors="replace").strip().isascii()
                                     or not value.strip().isdigit() else int(value))  # fmt: skip


def test_codes_are_those_of_the_standard():
    """SCT and SRT of pydicom's own map of the two say the same thing here."""
    for table in (codes.VIEWS, codes.DENSITIES, codes.SIDES, codes.MODIFIERS):
        for code, meaning in table.items():
            other = mapping["SCT"].get(code) if code.isdigit() else mapping["SRT"].get(code)
            assert other is not None, code
            assert table[other] == meaning


def test_every_rule_has_its_own_row():
    reasons = [Reason(rule.reason) for rule in rules.RULES]
    assert len(reasons) == len(set(reasons)) == len({rule.code for rule in rules.RULES})
    assert len(set(rules.SWITCHES)) == len(rules.SWITCHES)
