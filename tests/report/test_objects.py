"""Segmentations, presentation states, captures, documents: valid, consistent, with the findings where they are."""

import io
import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest

from mammoscan.core import kinds
from mammoscan.image.display import Display
from mammoscan.report import gsps, pdf, seg
from mammoscan.synthetic.dicom import Shown
from tests.report import checkers, results, sources

OURS = set(kinds.NAMES) - {"cad-sr", "tid1500", "tid1500-below"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study's source files, its result and all its objects: (headers, result, objects by name)."""
    folder = tmp_path_factory.mktemp("study")
    headers = sources.write_study(folder / "archive")
    result = sources.with_findings(headers)
    return headers, result, sources.write_objects(result, folder / "objects")


def _read(objects, name):
    return pydicom.dcmread(objects[name])


def _findings(result):
    return [f for p in result.images for f in p.findings]


@pytest.mark.outside
@checkers.NEEDED
def test_every_object_is_valid(study):
    _, _, objects = study
    assert {name: checkers.iod_complaints(path) for name, path in objects.items()} == {name: [] for name in objects}


@pytest.mark.outside
@checkers.NEEDED
def test_sources_and_results_of_a_study_agree(study):
    headers, _, objects = study
    assert checkers.entity_complaints([*(h.file.path for h in headers), *objects.values()]) == []


@pytest.mark.outside
@checkers.NEEDED
@pytest.mark.parametrize("outcome", ["none", "some-failed", "all-failed"])
def test_objects_of_every_outcome_are_valid(tmp_path, outcome, monkeypatch):
    monkeypatch.setattr("mammoscan.image.display.read_display", lambda _: Display(window=(2048.0, 4096.0)))
    objects = sources.write_objects(results.outcomes()[outcome], tmp_path, tuple(OURS))
    assert {name: checkers.iod_complaints(path) for name, path in objects.items()} == {name: [] for name in objects}
    assert "report-pdf.dcm" in objects


def test_every_kind_is_written_under_the_name_that_its_table_says(study):
    _, result, objects = study
    for kind in kinds.KINDS:
        stem = kind.file.removesuffix(".dcm").removesuffix("-NN").removesuffix("-S")
        found = [name for name in objects if name.startswith(stem)]
        assert found, kind.name
        for name in found:
            ds = _read(objects, name)
            assert (ds.SOPClassUID, ds.Modality) == (kind.sop_class_uid, kind.modality)
            assert kind.series_number <= ds.SeriesNumber < kind.series_number + 10
            assert ds.StudyInstanceUID == result.study.study_instance_uid


def test_no_object_is_a_mammogram(study):
    _, _, objects = study
    assert all(_read(objects, name).Modality != "MG" for name in objects)


def test_every_object_says_what_it_is_not(study):
    _, _, objects = study
    for name in objects:
        assert "research, second reading" in str(_read(objects, name).SeriesDescription), name


def test_no_two_objects_share_a_uid_and_no_two_kinds_a_series(study):
    _, _, objects = study
    found = [_read(objects, name) for name in objects]
    assert len({ds.SOPInstanceUID for ds in found}) == len(found)
    by_series = {}
    for ds in found:
        by_series.setdefault(ds.SeriesInstanceUID, set()).add(ds.SOPClassUID)
    assert all(len(classes) == 1 for classes in by_series.values())


def test_the_same_result_gives_the_same_bytes(study, tmp_path):
    _, result, objects = study
    again = sources.write_objects(result, tmp_path)
    assert {n: p.read_bytes() for n, p in again.items()} == {n: p.read_bytes() for n, p in objects.items()}


def test_highdicom_reads_the_same_masks_back(study):
    headers, result, objects = study
    for number, (header, prediction) in enumerate(zip(headers, result.images, strict=True), 1):
        name = f"segmentation-{number:02d}.dcm"
        assert (name in objects) == bool(prediction.findings)
        if not prediction.findings:
            continue
        read = hd.seg.segread(objects[name])
        assert [read.get_segment_description(n).tracking_uid for n in read.segment_numbers] == [
            f.tracking_uid for f in prediction.findings
        ]
        masks = read.get_pixels_by_source_instance(
            [header.sop_instance_uid], assert_missing_frames_are_empty=True, combine_segments=False
        )[0]
        for n, finding in enumerate(prediction.findings):
            expected = seg.mask(finding.region.contour, header.rows, header.columns)
            assert expected.any()
            assert np.array_equal(masks[..., n].astype(bool), expected)


def test_an_image_without_spacing_has_no_segmentation():
    assert seg.render(results.awkward()["empty"], results.CONTEXT) == {}
    assert seg.render(results.with_findings(), results.CONTEXT)


def _nrrd(path):
    """A 3D nrrd of dcmqi as (rows, columns); gzip or raw."""
    import gzip

    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    columns, rows, _ = (int(v) for v in fields["sizes"].split())
    kind = {"unsigned char": "u1", "short": "<i2", "unsigned short": "<u2", "int16": "<i2", "uint8": "u1"}[
        fields["type"]
    ]
    raw = gzip.decompress(body) if fields["encoding"].startswith("gz") else body
    return np.frombuffer(raw, kind).reshape(rows, columns)


@pytest.mark.outside
@pytest.mark.skipif(shutil.which("segimage2itkimage") is None, reason="dcmqi's segimage2itkimage is not installed")
def test_dcmqi_reads_the_same_masks_back(study, tmp_path):
    headers, result, objects = study
    subprocess.run(
        ["segimage2itkimage", "--inputDICOM", str(objects["segmentation-01.dcm"]), "--outputDirectory", str(tmp_path),
         "--outputType", "nrrd"],
        check=True, capture_output=True,
    )  # fmt: skip
    findings = result.images[0].findings
    assert len(list(tmp_path.glob("*.nrrd"))) == len(findings)
    for n, finding in enumerate(findings, 1):
        expected = seg.mask(finding.region.contour, headers[0].rows, headers[0].columns)
        assert np.array_equal(_nrrd(tmp_path / f"{n}.nrrd") > 0, expected)
    assert all(f.tracking_uid in (tmp_path / "meta.json").read_text() for f in findings)


def test_a_mask_holds_the_pixels_whose_centres_are_inside():
    square = np.array([[2.0, 1.0], [5.0, 1.0], [5.0, 3.0], [2.0, 3.0]])
    expected = np.zeros((6, 8), bool)
    expected[1:3, 2:5] = True
    assert np.array_equal(seg.mask(square, 6, 8), expected)
    shifted = square + (0.6, 0)
    expected = np.roll(expected, 1, axis=1)
    assert np.array_equal(seg.mask(shifted, 6, 8), expected)


def test_masks_agree_with_an_independent_point_in_polygon_test():
    from matplotlib.path import Path as Polygon

    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:60, 0:50] + 0.5
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 15))
        reach = rng.uniform(4, 40, 15)  # parts lie outside the image
        contour = np.column_stack([25 + reach * np.cos(angle), 30 + reach * np.sin(angle)])
        inside = Polygon(np.vstack([contour, contour[:1]])).contains_points(np.column_stack([x.ravel(), y.ravel()]))
        assert np.array_equal(seg.mask(contour, 60, 50).ravel(), inside)


@pytest.mark.parametrize(("rows", "columns"), [(37, 29), (8, 16), (5, 3)])
def test_frames_are_packed_one_after_the_other_whatever_their_size(rows, columns):
    rng = np.random.default_rng(rows)
    contours = [rng.uniform(-3, 1.2, (n, 2)) * (columns, rows) for n in (3, 7, 12)]
    contours.append(np.array([[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]))  # holds no pixel's centre
    masks = np.stack([seg.mask(c, rows, columns) for c in contours])
    packed = np.packbits(masks.ravel(), bitorder="little").tobytes()
    bands = [seg._band(c, rows, columns) for c in contours]
    assert seg._packed(bands, rows, columns) == packed + b"\0" * (len(packed) % 2)
    for chosen in ([0], [0, 1], [2, 3], [0, 1, 2, 3]):
        shared = masks[chosen].sum(axis=0).max() > 1
        assert seg._overlap([bands[n] for n in chosen], rows, columns) == shared


def test_an_outline_between_pixel_centres_still_marks_a_pixel():
    sliver = np.array([[3.1, 2.1], [3.3, 2.1], [3.2, 2.3]])
    mask = seg.mask(sliver, 6, 8)
    assert mask.sum() == 1
    assert mask[2, 3]


def test_segments_say_which_findings_are_not_for_presentation(study):
    _, result, objects = study
    read = _read(objects, "segmentation-01.dcm")
    for segment, finding in zip(read.SegmentSequence, result.images[0].findings, strict=True):
        assert ("not for presentation" in segment.SegmentLabel) is not finding.above_threshold


def test_presentation_states_mark_what_is_to_be_presented_one_a_side(study):
    _, result, objects = study
    states = {n: _read(objects, n) for n in objects if n.startswith("presentation-state")}
    assert set(states) == {"presentation-state-L.dcm", "presentation-state-R.dcm"}
    drawn = {}
    for name, ds in states.items():
        assert ds.Laterality == name.removesuffix(".dcm")[-1]
        for annotation in ds.GraphicAnnotationSequence:
            (image,) = annotation.ReferencedImageSequence
            for item in annotation.GraphicObjectSequence:
                drawn[item.TrackingUID] = (image.ReferencedSOPInstanceUID, np.reshape(item.GraphicData, (-1, 2)))
            assert [t.TrackingUID for t in annotation.TextObjectSequence] == [
                g.TrackingUID for g in annotation.GraphicObjectSequence
            ]
    assert set(drawn) == {f.tracking_uid for f in _findings(result) if f.above_threshold}
    for prediction in result.images:
        for finding in prediction.findings:
            if finding.above_threshold:
                uid, points = drawn[finding.tracking_uid]
                assert uid == prediction.header.sop_instance_uid
                assert np.allclose(points[:-1], finding.region.contour, atol=1e-3)
                assert np.array_equal(points[0], points[-1])


@pytest.mark.parametrize(
    "shown",
    [
        Shown("MONOCHROME1", window=((2047, 2600), (1500, 900)), function="SIGMOID"),
        Shown(window=((2048, 4096),), function="LINEAR_EXACT", rescale=(2.0, -100.0)),
        Shown(lut=tuple(range(0, 65536, 16)), bits=12),
        Shown(lut=tuple(range(65536)), bits=16),
        Shown(),
    ],
    ids=["monochrome1-sigmoid", "rescaled", "lut", "lut-of-all-values", "nothing-stated"],
)
@pytest.mark.outside
@checkers.NEEDED
def test_a_presentation_state_shows_the_image_as_its_source_says(tmp_path, shown):
    headers = sources.write_study(tmp_path / "archive", shown=shown)
    objects = sources.write_objects(sources.with_findings(headers), tmp_path / "objects", ("gsps",))
    assert [checkers.iod_complaints(p) for p in objects.values()] == [[], []]
    ds, source = _read(objects, "presentation-state-L.dcm"), pydicom.dcmread(headers[0].file.path)
    assert ds.PresentationLUTShape == ("INVERSE" if shown.photometric == "MONOCHROME1" else "IDENTITY")
    assert (float(ds.RescaleSlope), float(ds.RescaleIntercept)) == shown.rescale
    if shown.lut:
        theirs, ours = source.VOILUTSequence[0], ds.SoftcopyVOILUTSequence[0].VOILUTSequence[0]
        assert list(ours.LUTDescriptor) == list(theirs.LUTDescriptor)
        assert bytes(ours.LUTData) == bytes(theirs.LUTData)
    elif shown.window:
        item = ds.SoftcopyVOILUTSequence[0]
        assert (item.WindowCenter, item.WindowWidth) == shown.window[0]
        assert item.VOILUTFunction == shown.function
    else:
        assert "SoftcopyVOILUTSequence" not in ds


@pytest.mark.outside
@pytest.mark.skipif(shutil.which("dcmp2pgm") is None, reason="needs dcmtk")
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dcmtk_shows_the_same_pixels_with_the_presentation_state_as_without(tmp_path, photometric):
    shown = Shown(photometric, window=((1500, 900),), function="LINEAR")
    headers = sources.write_study(tmp_path / "archive", shown=shown)
    objects = sources.write_objects(sources.with_findings(headers), tmp_path / "objects", ("gsps",))
    pictures = []
    for n, options in enumerate(([], ["-p", str(objects["presentation-state-L.dcm"])])):
        out = tmp_path / f"{n}.pgm"
        subprocess.run(["dcmp2pgm", *options, str(headers[0].file.path), str(out)], check=True, capture_output=True)
        pixels = headers[0].rows * headers[0].columns
        pictures.append(np.frombuffer(out.read_bytes()[-pixels:], "u1").astype(int))
    assert np.ptp(pictures[0]) > 200
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_side_with_two_polarities_gets_two_states():
    headers = results.four_views()
    images = [
        results.prediction(h, [results.finding(h, 1, 0.9)]) for h in (headers[0], results.header(
            headers[1].laterality, headers[1].view, 2, photometric="MONOCHROME1"))
    ]  # fmt: skip
    result = results.study(images)
    displays = {p.header.sop_instance_uid: Display(window=(100.0, 50.0)) for p in images}
    files = gsps.render(result, results.CONTEXT, displays)
    assert set(files) == {"presentation-state-L.dcm", "presentation-state-L-2.dcm"}
    read = [pydicom.dcmread(io.BytesIO(content)) for content in files.values()]
    assert [ds.PresentationLUTShape for ds in read] == ["IDENTITY", "INVERSE"]
    assert len({ds.SOPInstanceUID for ds in read}) == 2


def test_the_overlay_shows_marks_where_they_are_and_says_what_it_is_not(study):
    headers, result, objects = study
    ds = _read(objects, "overlay-01.dcm")
    picture = ds.pixel_array.astype(int)
    scale = picture.shape[1] / headers[0].columns
    red = (picture[..., 0] > picture[..., 2] + 100) & (np.arange(picture.shape[0])[:, None] < headers[0].rows * scale)
    ys, xs = np.nonzero(red)
    region = next(f for f in result.images[0].findings if f.above_threshold).region
    assert abs(xs.min() / scale - region.box[0]) < 6
    assert abs(ys.max() / scale - region.box[3]) < 6
    assert picture.shape[0] > headers[0].rows * scale + 20  # the band of words
    assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == headers[0].sop_instance_uid


def test_the_encapsulated_report_is_the_pdf(study):
    _, result, objects = study
    ds = _read(objects, "report-pdf.dcm")
    assert ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength] == pdf.render(result, results.CONTEXT)


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs poppler-utils")
def test_tracking_identifiers_and_uids_are_the_same_everywhere(study, tmp_path):
    _, result, objects = study
    expected = {(f.tracking_id, f.tracking_uid) for f in _findings(result)}

    def values(item, keyword):
        return [e.value for e in item.iterall() if e.keyword == keyword]

    in_seg = set()
    for name in (n for n in objects if n.startswith("segmentation")):
        in_seg |= {(s.TrackingID, s.TrackingUID) for s in _read(objects, name).SegmentSequence}
    assert in_seg == expected
    shown = {(f.tracking_id, f.tracking_uid) for f in _findings(result) if f.above_threshold}
    in_gsps = set()
    for name in (n for n in objects if n.startswith("presentation-state")):
        for annotation in _read(objects, name).GraphicAnnotationSequence:
            in_gsps |= {(g.TrackingID, g.TrackingUID) for g in annotation.GraphicObjectSequence}
    assert in_gsps == shown
    reports = [name for name in objects if name.startswith(("tid1500", "not-for-presentation"))]
    for group, known in (
        (["mammography-cad-sr.dcm"], expected),
        (reports, expected),
        ([name for name in reports if name.startswith("tid1500")], shown),
    ):
        said = [_read(objects, name) for name in group]
        every = {uid for ds in said for uid in values(ds, "UID")} & {uid for _, uid in expected}
        assert every == {uid for _, uid in known}
        texts = {v for ds in said for v in values(ds, "TextValue")}
        assert texts & {i for i, _ in expected} == {i for i, _ in known}
    from mammoscan.report import tables

    rows = tables.rows_of_study(result, results.CONTEXT, "x")["findings"]
    columns = [c.name for c in tables.COLUMNS["findings"]]
    at = columns.index("tracking_id"), columns.index("tracking_uid")
    assert {(row[at[0]], row[at[1]]) for row in rows} == expected
    path = tmp_path / "r.pdf"
    path.write_bytes(pdf.render(result, results.CONTEXT))
    said = subprocess.run(["pdftotext", "-layout", str(path), "-"], capture_output=True, check=True).stdout.decode()
    for identifier, uid in expected:
        assert identifier in said
        assert uid in said
