"""From header results to studies: nothing is lost, nothing chosen silently, no patient mixed with another."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from mammoscan.archive import discover, header
from mammoscan.core.domain import Density, DensityReading, DensitySource, Failed, Laterality, Skipped, SourceFile, View
from mammoscan.core.errors import Reason, Stage
from mammoscan.run import tasks
from mammoscan.run.plan import plan_studies
from mammoscan.synthetic.dicom import Subject, file_bytes, mammogram_dataset
from tests import headers

PIXELS = np.full((260, 260), 100, np.uint16)


def _content(uid="1.2.3.1", study="1.2.9", patient="P1", issuer="", **changes):
    ds = mammogram_dataset(PIXELS, laterality=Laterality.LEFT, view=View.CC, subject=Subject(patient))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
    ds.StudyInstanceUID = study
    ds.IssuerOfPatientID = issuer
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return file_bytes(ds)


def _plan(folder, contents):
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files = discover.walk(folder, out=None)
    return plan_studies(headers.read(files), _same)


def _same(twins):
    found = tasks.compare(tuple(twins))
    return found.removeprefix(tasks.UNREADABLE) if found.startswith(tasks.UNREADABLE) else found == tasks.SAME


def _ends(plans, loose):
    """(relative, what became of it) of everything that a plan holds."""
    ends = [(h.file.relative, "image") for p in plans for h in p.headers]
    ends += [(r.file.relative, r.reason.code) for p in plans for r in (*p.skipped, *p.failed)]
    return sorted(ends + [(r.file.relative, r.reason.code) for r in loose])


def test_an_exact_duplicate_is_dropped_and_the_first_path_stays(tmp_path):
    plans, loose = _plan(tmp_path, {"b": _content(), "a": _content(), "c": _content()})
    assert _ends(plans, loose) == [("a", "image"), ("b", "duplicate"), ("c", "duplicate")]
    assert {s.detail for s in plans[0].skipped} == {"of a"}


def test_two_contents_under_one_uid_are_both_refused(tmp_path):
    ends = _ends(*_plan(tmp_path, {"a": _content(), "b": _content(StudyDescription="another"), "c": _content()}))
    assert {what for _, what in ends} == {"conflicting-uid"}


def test_one_uid_in_two_studies_is_refused_in_both(tmp_path):
    plans, _ = _plan(tmp_path, {"a": _content(), "b": _content(study="1.2.8")})
    assert [len(p.failed) for p in plans] == [1, 1]
    assert not any(p.headers for p in plans)


def test_an_image_and_a_skipped_object_of_one_uid_contradict_each_other(tmp_path):
    contents = {"a": _content(), "b": _content(SOPClassUID=header.TOMOSYNTHESIS)}
    assert _ends(*_plan(tmp_path, contents)) == [("a", "conflicting-uid"), ("b", "conflicting-uid")]


def test_a_study_of_two_patients_is_refused(tmp_path):
    contents = {"a": _content(), "b": _content("1.2.3.2", patient="P2"), "c": _content("1.2.3.3", study="1.2.8")}
    assert _ends(*_plan(tmp_path, contents)) == [("a", "mixed-patients"), ("b", "mixed-patients"), ("c", "image")]


def test_a_missing_issuer_is_no_other_patient_and_another_issuer_is(tmp_path):
    contents = {"a": _content(issuer="HOSPITAL"), "b": _content("1.2.3.2")}
    assert {what for _, what in _ends(*_plan(tmp_path, contents))} == {"image"}
    contents["c"] = _content("1.2.3.3", issuer="CLINIC")
    assert {what for _, what in _ends(*_plan(tmp_path, contents))} == {"mixed-patients"}


def _report(patient):
    reading = DensityReading(Density.C, DensitySource.REPORT, Laterality.BOTH)
    file = SourceFile(None, "sr", 1, 1)
    return Skipped(file, Stage.HEADER, Reason.DENSITY_SOURCE, "", "1.2.9", "1.2.3.9", (reading,), (patient, ""))


@pytest.mark.parametrize(("patient", "reason"), [("P1", None), ("", None), ("P2", Reason.MIXED_PATIENTS)])
def test_a_density_of_another_patient_is_never_used(tmp_path, patient, reason):
    (tmp_path / "a").write_bytes(_content())
    files = discover.walk(tmp_path, out=None)
    results = [*headers.read(files), _report(patient)]
    ((plan,), _) = plan_studies(results, _same)
    assert [f.reason for f in plan.failed] == ([reason] if reason else [])
    assert len(plan.densities) == (reason is None)


def test_images_are_ordered_by_series_instance_and_uid(tmp_path):
    numbers = [(2, 1), (1, 2), (1, 1), (None, None), (1, 1)]
    contents = {
        str(i): _content(f"1.2.3.{9 - i}", SeriesNumber=series, InstanceNumber=instance)
        for i, (series, instance) in enumerate(numbers)
    }
    ((plan,), _) = _plan(tmp_path, contents)
    assert [h.file.relative for h in plan.headers] == ["4", "2", "1", "0", "3"]


def test_a_header_without_a_study_fails_and_is_not_lost(tmp_path):
    (tmp_path / "a").write_bytes(_content())
    files = discover.walk(tmp_path, out=None)
    (found,) = headers.read(files)
    plans, loose = plan_studies([replace(found, study=replace(found.study, study_instance_uid=""))], _same)
    assert not plans
    assert [f.reason for f in loose] == [Reason.MISSING_UID]
    assert isinstance(loose[0], Failed)


def test_twins_that_cannot_be_read_again_fail(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(_content())
    files = discover.walk(tmp_path, out=None)
    found = list(headers.read(files))
    (tmp_path / "b").unlink()
    assert {what for _, what in _ends(*plan_studies(found, _same))} == {"unreadable"}


KINDS = st.one_of(
    st.tuples(
        st.sampled_from(["1.2.3.1", "1.2.3.2", "1.2.3.3"]),
        st.sampled_from(["1.2.9", "1.2.8"]),
        st.sampled_from(["P1", "P2"]),
        st.sampled_from([header.FOR_PRESENTATION, header.TOMOSYNTHESIS, header.FOR_PROCESSING]),
    ),
    st.sampled_from(["text", "empty", "cut"]),
)
MADE: dict[object, bytes] = {"text": b"no image at all", "empty": b"", "cut": _content()[:900]}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(KINDS, max_size=8), random=st.randoms(use_true_random=False))
def test_every_file_of_any_archive_ends_once_whatever_the_order(tmp_path_factory, kinds, random):
    folder = tmp_path_factory.mktemp("archive")
    for number, kind in enumerate(kinds):
        if kind not in MADE:
            uid, study, patient, sop_class = kind
            MADE[kind] = _content(uid, study, patient, SOPClassUID=sop_class)
        (folder / str(number)).write_bytes(MADE[kind])
    files = discover.walk(folder, out=None)
    results = list(headers.read(files))
    plans, loose = plan_studies(results, _same)
    ends = _ends(plans, loose)
    assert [name for name, _ in ends] == sorted(str(n) for n in range(len(kinds)))
    assert len({h.sop_instance_uid for p in plans for h in p.headers}) == sum(len(p.headers) for p in plans)
    assert all(len({h.patient.patient_id for h in p.headers}) <= 1 for p in plans)
    random.shuffle(results)
    assert plan_studies(results, _same) == (plans, loose)


# --------------------------------------------------------------------------- one data set in several encodings


def _encoded(**changes):
    """One instance in another encoding: changes to the data set, or ``syntax``, ``preamble``, ``meta``, ``charset``."""
    ds = mammogram_dataset(
        PIXELS + np.arange(260, dtype=np.uint16), laterality=Laterality.LEFT, view=View.CC, subject=Subject("P1"),
        transfer_syntax=changes.pop("syntax", ExplicitVRLittleEndian),
    )  # fmt: skip
    ds.SpecificCharacterSet = changes.pop("charset", "ISO_IR 192")
    ds.PatientName = "Müller^Änne"
    ds.private_block(0x0099, "MAKER", create=True).add_new(1, "LO", "private words")
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.1"
    ds.StudyInstanceUID = "1.2.9"
    ds.preamble = changes.pop("preamble", bytes(128))
    for keyword, value in changes.pop("meta", {}).items():
        setattr(ds.file_meta, keyword, value)
    if changes.pop("undefined_lengths", False):
        for element in ds:
            if element.VR == "SQ":
                element.is_undefined_length = True
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return file_bytes(ds)


@pytest.mark.parametrize(
    "other",
    [
        {"preamble": b"MM\0*" + bytes(124)},
        {"meta": {"ImplementationVersionName": "ARCHIVE", "SourceApplicationEntityTitle": "PACS"}},
        {"syntax": ImplicitVRLittleEndian},
        {"syntax": DeflatedExplicitVRLittleEndian},
        {"syntax": RLELossless},
        {"syntax": JPEG2000Lossless},
        {"charset": "ISO_IR 100"},
        {"undefined_lengths": True},
        {"DataSetTrailingPadding": bytes(64)},
    ],
)
def test_one_data_set_in_two_encodings_is_one_instance(tmp_path, other):
    contents = {"a": _encoded(), "b": _encoded(**other)}
    assert contents["a"] != contents["b"]
    assert _ends(*_plan(tmp_path, contents)) == [("a", "image"), ("b", "duplicate")]


@pytest.mark.parametrize(
    "other",
    [
        {"syntax": ImplicitVRLittleEndian, "PatientName": "Muller^Anne"},
        {"charset": "ISO_IR 100", "StudyDescription": "another"},
        {"undefined_lengths": True, "Manufacturer": "Another"},
        {"syntax": ImplicitVRLittleEndian, "PixelData": bytes(2 * 260 * 260)},
    ],
)
def test_two_data_sets_in_two_encodings_are_two(tmp_path, other):
    contents = {"a": _encoded(), "b": _encoded(**other)}
    assert {what for _, what in _ends(*_plan(tmp_path, contents))} == {"conflicting-uid"}


def test_a_whole_copy_and_one_cut_within_its_pixels_are_not_one(tmp_path, recwarn):
    whole = _encoded(syntax=JPEG2000Lossless).removesuffix(b"\xfe\xff\xdd\xe0\0\0\0\0")
    contents = {"a": whole[:-20], "b": whole}
    assert {what for _, what in _ends(*_plan(tmp_path, contents))} == {"conflicting-uid"}
    assert not recwarn.list


def test_twins_of_which_one_is_damaged_are_not_one(tmp_path):
    whole = _encoded(syntax=JPEG2000Lossless)
    contents = {"a": _encoded(), "b": whole[: len(whole) - 60]}
    assert {what for _, what in _ends(*_plan(tmp_path, contents))} == {"conflicting-uid"}


def test_an_image_without_identifier_is_named_so_and_the_others_of_its_study_are_analysed(tmp_path):
    contents = {"a": _content(), "b": _content("1.2.3.2", patient="")}
    assert _ends(*_plan(tmp_path, contents)) == [("a", "image"), ("b", "missing-identifier")]


def test_a_study_without_any_identifier_is_analysed(tmp_path):
    contents = {"a": _content(patient=""), "b": _content("1.2.3.2", patient="")}
    assert _ends(*_plan(tmp_path, contents)) == [("a", "image"), ("b", "image")]
