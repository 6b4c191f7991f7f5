"""Structured reports: clean under checkers that nobody here wrote, with the findings where they are."""

import io
import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest

from mammoscan.core import uids
from mammoscan.core.domain import RegionKind
from mammoscan.report import sr_cad, sr_tid1500
from tests.report import checkers, results


def _cad(result, context):
    return {"mammography-cad-sr.dcm": sr_cad.render(result, context)}


def _tid1500(result, context):
    return sr_tid1500.render(result, context) | sr_tid1500.render_below(result, context)


KINDS = {"cad": _cad, "tid1500": _tid1500}  # every report of a study, by the name of its file
# dsrdump 3.6.7's VR checker knows ASCII and Latin-1 only and warns for every other character set.
CHARSET_LIMIT = "The VR checker does not support this Specific Character Set"


def _files(tmp_path, kind, result):
    paths = []
    for name, content in KINDS[kind](result, results.CONTEXT).items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    return paths


def _datasets(kind, result):
    return {n: pydicom.dcmread(io.BytesIO(c)) for n, c in KINDS[kind](result, results.CONTEXT).items()}


def _cad_dataset(result):
    (ds,) = _datasets("cad", result).values()
    return ds


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
    for path in _files(tmp_path, kind, results.outcomes()[outcome]):
        assert checkers.sr_complaints(path) == []


@pytest.mark.outside
@checkers.NEEDED
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(results.awkward()))
def test_awkward_sources_are_valid(tmp_path, kind, name):
    for path in _files(tmp_path, kind, results.awkward()[name]):
        complaints = checkers.iod_complaints(path) + checkers.dump_complaints(path)
        if name in {"japanese", "cyrillic"}:
            complaints = [c for c in complaints if CHARSET_LIMIT not in c]
        assert complaints == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["japanese", "cyrillic", "latin"])
def test_names_come_back_as_they_were(kind, name):
    result = results.awkward()[name]
    assert {str(ds.PatientName) for ds in _datasets(kind, result).values()} == {result.patient.name}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_invented_for_missing_attributes(kind):
    for ds in _datasets(kind, results.awkward()["empty"]).values():
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber"):
            assert str(ds[keyword].value or "") == ""
        assert "PatientAge" not in ds


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_result_gives_the_same_bytes_and_is_unverified(kind):
    result = results.with_findings()
    assert KINDS[kind](result, results.CONTEXT) == KINDS[kind](result, results.CONTEXT)
    assert {ds.VerificationFlag for ds in _datasets(kind, result).values()} == {"UNVERIFIED"}


@pytest.mark.parametrize("kind", KINDS)
def test_outlines_are_in_source_pixels_and_carry_their_tracking_uids(kind):
    result = results.with_findings()
    items = [item for ds in _datasets(kind, result).values() for item in _walk(ds)]
    outlines = sorted(tuple(np.round(i.GraphicData, 2)) for i in items if i.get("GraphicType") == "POLYLINE")
    findings = [f for p in result.images for f in p.findings]
    expected = sorted(tuple(np.round(np.vstack([f.region.contour, f.region.contour[:1]]).ravel(), 2)) for f in findings)
    assert np.allclose(outlines, expected, atol=0.01)
    tracked = [i for ds in _datasets(kind, result).values() for i in _named(ds, "112040")]
    outcome = uids.of_result("tid1500-outcome", result, results.CONTEXT)
    assert {i.UID for i in tracked} - {outcome} == {f.tracking_uid for f in findings}


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_stands_in_the_evidence(kind):
    result = results.outcomes()["some-failed"]
    listed = {
        reference.ReferencedSOPInstanceUID
        for ds in _datasets(kind, result).values()
        for study in ds.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    assert listed == {p.header.sop_instance_uid for p in result.images} | {f.sop_instance_uid for f in result.failed}


def test_references_by_position_point_at_the_image_of_the_finding():
    result = results.with_findings()
    ds = _cad_dataset(result)
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
    ds = _cad_dataset(results.with_findings())
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("outcome", "code"),
    [("findings", "111242"), ("none", "111241"), ("some-failed", "111244"), ("all-failed", "111245")],
)
def test_the_summary_says_the_outcome(kind, outcome, code):
    name = {"cad": "mammography-cad-sr.dcm", "tid1500": "tid1500-sr.dcm"}[kind]
    (item,) = _named(_datasets(kind, results.outcomes()[outcome])[name], "111017")
    assert item.ConceptCodeSequence[0].CodeValue == code


def _groups(path):
    return hd.sr.srread(path).content.get_planar_roi_measurement_groups()


def test_highdicom_reads_the_same_findings_back_each_from_the_report_of_its_image(tmp_path):
    result = results.with_findings()
    paths = _files(tmp_path, "tid1500", result)
    found = {path.name: {g.tracking_uid for g in _groups(path)} for path in paths if path.name != "tid1500-sr.dcm"}
    expected = {}
    for number, prediction in enumerate(result.images, 1):
        for f in prediction.findings:
            name = f"tid1500-{number:02d}.dcm" if f.above_threshold else f"not-for-presentation-{number:02d}.dcm"
            expected.setdefault(name, set()).add(f.tracking_uid)
    assert found == expected
    assert {name.rpartition("-")[0] for name in found} == {"tid1500", "not-for-presentation"}


def test_reports_of_images_speak_of_one_image_and_are_a_series_each(tmp_path):
    result = results.with_findings()
    seen = set()
    for name, ds in _datasets("tid1500", result).items():
        (study,) = ds.CurrentRequestedProcedureEvidenceSequence
        evidence = [r.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for r in s.ReferencedSOPSequence]
        if name == "tid1500-sr.dcm":
            assert len(evidence) == len(result.images)
            assert not [i for i in _walk(ds) if i.ValueType == "SCOORD"]
            # A title of its own: OHIF seeks outlines below that of measurements, and ends where there are none.
            assert ds.ConceptNameCodeSequence[0].CodeValue == "111036"
        else:
            header = result.images[int(name[-6:-4]) - 1].header
            assert evidence == [header.sop_instance_uid]
            assert ds.SeriesDescription.startswith(f"{header.laterality.value} {header.view.value}: ")
            assert ("below operating point" in ds.SeriesDescription) == name.startswith("not")
            assert ds.ConceptNameCodeSequence[0].CodeValue == "126000"
        seen.add((ds.SeriesInstanceUID, ds.SeriesNumber))
    assert (
        len({uid for uid, _ in seen})
        == len({number for _, number in seen})
        == len(KINDS["tid1500"](result, results.CONTEXT))
    )


def test_a_score_is_no_probability_and_a_mass_no_density(tmp_path):
    result = results.with_findings()
    findings = {f.tracking_uid: f for p in result.images for f in p.findings}
    said = []
    for name, ds in _datasets("tid1500", result).items():
        (scheme,) = ds.CodingSchemeIdentificationSequence
        for item in _walk(ds):
            for sequence in ("ConceptNameCodeSequence", "ConceptCodeSequence"):
                for coded in item.get(sequence, ()):
                    assert coded.CodeValue not in {"111047", "129793001"}
                    if coded.CodingSchemeDesignator.startswith("99"):
                        assert coded.CodingSchemeDesignator == scheme.CodingSchemeDesignator
        if name == "tid1500-sr.dcm":
            continue
        for group in hd.sr.srread(
            io.BytesIO(_tid1500(result, results.CONTEXT)[name])
        ).content.get_planar_roi_measurement_groups():
            finding = findings[group.tracking_uid]
            (score,) = group.get_measurements(name=sr_tid1500.SCORE)
            assert score.value == pytest.approx(finding.scores.malignancy, abs=1e-4)
            assert (score.name.meaning, score.unit.value) == ("Malignancy score", "{0:1}")
            said.append((finding.region.kind, group.finding_type.meaning))
    assert set(said) == {
        (RegionKind.MASS, "Mammographic breast mass"),
        (RegionKind.CALCIFICATION, "Calcification Cluster"),
    }


@pytest.mark.outside
@pytest.mark.skipif(shutil.which("tid1500reader") is None, reason="dcmqi's tid1500reader is not installed")
def test_dcmqi_reads_the_same_findings_back(tmp_path):
    result = results.with_findings()
    text = ""
    for path in _files(tmp_path, "tid1500", result):
        if path.name == "tid1500-sr.dcm":
            continue
        out = tmp_path / "out.json"
        subprocess.run(
            ["tid1500reader", "--inputDICOM", str(path), "--outputMetadata", str(out)], check=True, capture_output=True
        )
        text += out.read_text()
    assert all(f.tracking_uid in text for p in result.images for f in p.findings)
