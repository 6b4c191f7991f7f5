"""Facts of a header, strictly; and the rules that decide about its file."""

import io
import os
import time

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mammoscan import density, dicomfile, discover, header
from mammoscan.config import AnalysisConfig
from mammoscan.domain import (
    AgeSource,
    Density,
    DensitySource,
    Failed,
    Flag,
    Header,
    Laterality,
    Skipped,
    SourceFile,
    SpacingSource,
    View,
)
from mammoscan.errors import LabelError, Reason
from mammoscan.plan import plan_studies
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


# --------------------------------------------------------------------------- walking


def test_every_file_of_a_tree_is_found_once_and_loops_end(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "no extension").write_text("x")
    (tmp_path / "a" / "b" / "ünï.dcm").write_text("x")
    (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    found = list(discover.walk(tmp_path, out=tmp_path / "out"))
    names = [getattr(f, "relative", None) or f.file.relative for f in found]
    assert sorted(names) == sorted(set(names))
    assert set(names) == {"a/no extension", "a/b/ünï.dcm", "a/b/loop", "a/nowhere", "pipe"}
    assert sum(isinstance(f, SourceFile) for f in found) == 2


def test_a_name_that_is_no_utf8_can_be_read_and_shown(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.dcm"
    with open(raw, "wb") as stream:  # noqa: PTH123 - a name in bytes
        stream.write(file_bytes(_dataset()))
    (found,) = discover.walk(tmp_path, out=None)
    found.relative.encode("utf-8")
    assert isinstance(header.read_header(found, include=INCLUDE, settle_seconds=0, now=time.time() + 9), Header)


# --------------------------------------------------------------------------- planning


def _plan(*paths):
    return plan_studies([_read(p) for p in paths])


def test_an_exact_duplicate_is_dropped(tmp_path):
    first = _written(tmp_path, "a")
    (tmp_path / "b").write_bytes(first.read_bytes())
    (plan,), loose = _plan(first, tmp_path / "b")
    assert len(plan.headers) == 1
    assert [s.reason for s in plan.skipped] == [Reason.DUPLICATE]
    assert not loose


def test_two_contents_under_one_uid_are_both_refused(tmp_path):
    (plan,), _ = _plan(_written(tmp_path, "a"), _written(tmp_path, "b", StudyDescription="another"))
    assert not plan.headers
    assert [f.reason for f in plan.failed] == [Reason.CONFLICTING_UID] * 2


def test_a_study_of_two_patients_is_refused(tmp_path):
    first, second = _dataset(), _dataset(PatientID="P2")
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    for name, ds in (("a", first), ("b", second)):
        (tmp_path / name).write_bytes(file_bytes(ds))
    (plan,), _ = _plan(tmp_path / "a", tmp_path / "b")
    assert not plan.headers
    assert {f.reason for f in plan.failed} == {Reason.MIXED_PATIENTS}


# --------------------------------------------------------------------------- density


def test_a_density_table_wins_and_names_its_bad_rows(tmp_path):
    table = tmp_path / "d.csv"
    table.write_text("patient_id,laterality,density\nP1,L,3\n")
    facts = _facts(tmp_path)
    reading = density.best_density(facts, (), density.read_density_table(table), Density.A)
    assert (reading.density, reading.source) == (Density.C, DensitySource.TABLE)
    table.write_text("patient_id,density\nP1,9\n")
    with pytest.raises(LabelError, match="row 2"):
        density.read_density_table(table)


def test_an_estimate_is_named_as_one_and_nothing_stays_nothing(tmp_path):
    facts = _facts(tmp_path)
    assert density.best_density(facts, (), None, Density.B).source is DensitySource.ESTIMATE
    assert density.best_density(facts, (), None, None).density is Density.UNKNOWN


def test_our_own_reports_are_never_read_as_a_reading():
    ds = Dataset()
    ds.Manufacturer = "mammoscan"
    ds.ContentSequence = Sequence([_composition()])
    assert density.reported_densities(ds) == ()
    ds.Manufacturer = "Other"
    assert [r.density for r in density.reported_densities(ds)] == [Density.C]


def _composition():
    item = Dataset()
    item.ConceptNameCodeSequence = Sequence([_code("129715009", "SCT")])
    item.ConceptCodeSequence = Sequence([_code("129718006", "SCT")])
    return item


def test_every_rule_has_its_own_row():
    reasons = [rule.reason for rule in header.RULES]
    assert len(reasons) == len(set(reasons))
    assert set(header.SWITCHES) <= set(reasons)


def test_an_unreadable_study_never_loses_a_file(tmp_path):
    paths = [_written(tmp_path, "a"), tmp_path / "t"]
    paths[1].write_text("x")
    results = [_read(p) for p in paths]
    plans, loose = plan_studies(results)
    listed = [h.file for p in plans for h in p.headers] + [r.file for p in plans for r in (*p.skipped, *p.failed)]
    assert sorted(f.relative for f in listed + [r.file for r in loose]) == ["a", "t"]
    assert any(isinstance(r, Skipped) for r in loose)
    assert isinstance(pydicom.dcmread(io.BytesIO(paths[0].read_bytes())), pydicom.FileDataset)
