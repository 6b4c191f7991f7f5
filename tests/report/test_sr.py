"""Structured reports: clean under checkers that nobody here wrote, with the findings where they are."""

import io
import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest

from mammoscan.report import sr_cad, sr_tid1500
from tests.report import checkers, results

KINDS = {"cad": sr_cad, "tid1500": sr_tid1500}
# dsrdump 3.6.7's VR checker knows ASCII and Latin-1 only and warns for every other character set.
CHARSET_LIMIT = "The VR checker does not support this Specific Character Set"


def _file(tmp_path, kind, result):
    path = tmp_path / f"{kind}.dcm"
    path.write_bytes(KINDS[kind].render(result, results.CONTEXT))
    return path


def _dataset(kind, result):
    return pydicom.dcmread(io.BytesIO(KINDS[kind].render(result, results.CONTEXT)))


def _walk(item):
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _walk(child)


def _named(ds, value):
    return [
        i for i in _walk(ds) if i.get("ConceptNameCodeSequence") and i.ConceptNameCodeSequence[0].CodeValue == value
    ]


@pytest.mark.outside
@checkers.NEEDED
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outcome", ["findings", "none", "some-failed", "all-failed"])
def test_every_outcome_is_clean(tmp_path, kind, outcome):
    assert checkers.sr_complaints(_file(tmp_path, kind, results.outcomes()[outcome])) == []


@pytest.mark.outside
@checkers.NEEDED
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(results.awkward()))
def test_awkward_sources_are_valid(tmp_path, kind, name):
    path = _file(tmp_path, kind, results.awkward()[name])
    complaints = checkers.iod_complaints(path) + checkers.dump_complaints(path)
    if name in {"japanese", "cyrillic"}:
        complaints = [c for c in complaints if CHARSET_LIMIT not in c]
    assert complaints == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["japanese", "cyrillic", "latin"])
def test_names_come_back_as_they_were(kind, name):
    result = results.awkward()[name]
    assert str(_dataset(kind, result).PatientName) == result.patient.name


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_invented_for_missing_attributes(kind):
    ds = _dataset(kind, results.awkward()["empty"])
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber"):
        assert str(ds[keyword].value or "") == ""
    assert "PatientAge" not in ds


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_result_gives_the_same_bytes_and_is_unverified(kind):
    result = results.with_findings()
    first = KINDS[kind].render(result, results.CONTEXT)
    assert first == KINDS[kind].render(result, results.CONTEXT)
    assert pydicom.dcmread(io.BytesIO(first)).VerificationFlag == "UNVERIFIED"


@pytest.mark.parametrize("kind", KINDS)
def test_outlines_are_in_source_pixels_and_carry_their_tracking_uids(kind):
    result = results.with_findings()
    ds = _dataset(kind, result)
    outlines = sorted(tuple(np.round(i.GraphicData, 2)) for i in _walk(ds) if i.get("GraphicType") == "POLYLINE")
    findings = [f for p in result.images for f in p.findings]
    expected = sorted(tuple(np.round(np.vstack([f.region.contour, f.region.contour[:1]]).ravel(), 2)) for f in findings)
    assert np.allclose(outlines, expected, atol=0.01)
    assert {i.UID for i in _named(ds, "112040")} == {f.tracking_uid for f in findings}


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_stands_in_the_evidence(kind):
    result = results.outcomes()["some-failed"]
    ds = _dataset(kind, result)
    listed = {
        reference.ReferencedSOPInstanceUID
        for study in ds.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    assert listed == {p.header.sop_instance_uid for p in result.images} | {f.sop_instance_uid for f in result.failed}


def test_references_by_position_point_at_the_image_of_the_finding():
    result = results.with_findings()
    ds = _dataset("cad", result)
    library = ds.ContentSequence[1].ContentSequence
    for item in _named(ds, "111059"):
        uid = next(c.UID for c in item.ContentSequence if c.get("ValueType") == "UIDREF")
        centre = next(c for c in item.ContentSequence if c.get("GraphicType") == "POINT")
        root, second, position = centre.ContentSequence[0].ReferencedContentItemIdentifier
        assert (root, second) == (1, 2)
        shown = library[position - 1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        owner = next(p.header.sop_instance_uid for p in result.images for f in p.findings if f.tracking_uid == uid)
        assert shown == owner


def test_findings_below_the_operating_point_are_not_for_presentation():
    ds = _dataset("cad", results.with_findings())
    for item in _named(ds, "111059"):
        score = next(
            float(c.MeasuredValueSequence[0].NumericValue)
            for c in item.ContentSequence
            if c.get("ConceptNameCodeSequence") and c.ConceptNameCodeSequence[0].CodeValue == "111047"
        )
        intent = next(
            c.ConceptCodeSequence[0].CodeValue
            for c in item.ContentSequence
            if c.get("ConceptNameCodeSequence") and c.ConceptNameCodeSequence[0].CodeValue == "111056"
        )
        assert intent == ("111150" if score >= 100 * results.CONTEXT.threshold else "111152")


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("findings", "111242"), ("none", "111241"), ("some-failed", "111244"), ("all-failed", "111245")],
)
def test_the_summary_says_the_outcome(outcome, code):
    (item,) = _named(_dataset("cad", results.outcomes()[outcome]), "111017")
    assert item.ConceptCodeSequence[0].CodeValue == code


def test_highdicom_reads_the_same_findings_back(tmp_path):
    result = results.with_findings()
    report = hd.sr.srread(_file(tmp_path, "tid1500", result))
    groups = report.content.get_planar_roi_measurement_groups()
    assert {g.tracking_uid for g in groups} == {f.tracking_uid for p in result.images for f in p.findings}


@pytest.mark.outside
@pytest.mark.skipif(shutil.which("tid1500reader") is None, reason="dcmqi's tid1500reader is not installed")
def test_dcmqi_reads_the_same_findings_back(tmp_path):
    result = results.with_findings()
    path = _file(tmp_path, "tid1500", result)
    out = tmp_path / "out.json"
    subprocess.run(
        ["tid1500reader", "--inputDICOM", str(path), "--outputMetadata", str(out)], check=True, capture_output=True
    )
    text = out.read_text()
    assert all(f.tracking_uid in text for p in result.images for f in p.findings)
