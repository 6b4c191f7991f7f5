"""What the structured report outlines is, in the stored source image, the lesion: whatever was done on the way.

The outline is read from the SR by highdicom and laid over the pixels as pydicom decodes them; nothing of the
program's own geometry takes part.
"""

import dataclasses
import io

import highdicom as hd
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon

from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import Analysed, Density, Laterality, Prediction, RegionKind, View
from mammoscan.image.analyse import analyse
from mammoscan.model import bundle
from mammoscan.report import sr_cad, sr_tid1500
from mammoscan.synthetic.archive import stored_values
from mammoscan.synthetic.dicom import Shown, file_bytes, mammogram_dataset
from mammoscan.synthetic.phantom import Lesion, Spec, render
from tests.report import results, sources

LESION = Lesion(RegionKind.MASS, malignant=False, radius_mm=8.0)
# side: the right breast is flipped. enlarge: the working image is smaller than the source. border: is cropped away.
CASES = {
    "as-it-is": (Laterality.LEFT, 1.0, 0, "MONOCHROME2"),
    "flipped": (Laterality.RIGHT, 1.0, 0, "MONOCHROME2"),
    "cropped": (Laterality.LEFT, 1.0, 100, "MONOCHROME2"),
    "resized": (Laterality.LEFT, 2.6, 0, "MONOCHROME2"),
    "monochrome1": (Laterality.LEFT, 1.0, 0, "MONOCHROME1"),
    "everything-at-once": (Laterality.RIGHT, 2.6, 120, "MONOCHROME1"),
}


def _write(path, side, enlarge, border, photometric):
    """A phantom with one mass: the lesion's middle and radius in pixels of the source."""
    spec = Spec(side, View.CC, Density.A, (LESION,), round(900 * enlarge), round(720 * enlarge), patient=4)
    pixels, truth = render(spec, 11)
    # Rows above, below and before the nipple; the breast still meets the edge of the chest wall.
    before, after = (0, border) if side is Laterality.LEFT else (border, 0)
    pixels = np.pad(pixels, ((border, border), (before, after)))
    shown = Shown(photometric, bits=spec.bits)
    ds = mammogram_dataset(
        stored_values(pixels, shown), laterality=side, view=View.CC, subject=sources.SUBJECT, shown=shown,
        spacing_mm=truth.mm,
    )  # fmt: skip
    path.write_bytes(file_bytes(ds))
    (placed,) = truth.lesions
    return placed.x + before, placed.y + border, placed.radius


def _outlines(result, kind):
    """Outlines (n, 2) of an SR with the images they are of."""
    if kind == "tid1500":
        report = hd.sr.srread(io.BytesIO(sr_tid1500.render(result, results.CONTEXT)["tid1500-01.dcm"]))
        groups = report.content.get_planar_roi_measurement_groups()
        return [
            (g.roi.value, g.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for g in groups
        ]
    ds = pydicom.dcmread(io.BytesIO(sr_cad.render(result, results.CONTEXT)))
    library = ds.ContentSequence[1].ContentSequence
    out = []

    def walk(item):
        for child in item.get("ContentSequence", ()):
            if child.get("GraphicType") == "POLYLINE":
                position = child.ContentSequence[0].ReferencedContentItemIdentifier[-1]
                image = library[position - 1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
                out.append((np.reshape(child.GraphicData, (-1, 2)), image))
            walk(child)

    walk(ds)
    return out


def _inside(points, shape):
    """Mask (h, w) of the pixels whose middles lie in a polygon (n, 2); those outside its box are not asked."""
    drawn = np.zeros(shape, bool)
    x0, y0 = np.clip(np.floor(points.min(axis=0)).astype(int), 0, shape[::-1])
    x1, y1 = np.clip(np.ceil(points.max(axis=0)).astype(int), 0, shape[::-1])
    rows, columns = np.mgrid[y0:y1, x0:x1] + 0.5
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    drawn[y0:y1, x0:x1] = Polygon(points).contains_points(centres).reshape(rows.shape)
    return drawn


@pytest.mark.parametrize("case", list(CASES))
def test_an_outline_of_the_report_drawn_on_the_source_image_is_around_the_lesion(tmp_path, case):
    path = tmp_path / "source.dcm"
    x, y, radius = _write(path, *CASES[case])
    header = sources.read(path)
    analysed = analyse(header, AnalysisConfig(), bundle.load(None).crop)
    assert isinstance(analysed, Analysed), analysed
    if case == "everything-at-once":
        geometry = analysed.geometry
        assert geometry.flipped
        assert geometry.scale_x < 1
        assert max(geometry.x0, geometry.y0) > 0
    findings = []
    for n, region in enumerate(analysed.regions, 1):
        findings.append(dataclasses.replace(results.finding(header, n, 0.9), region=region))
    prediction: Prediction = results.prediction(header, findings)
    result = results.study([prediction], patient=header.patient, facts=header.study)
    stored = pydicom.dcmread(path)
    tissue = stored.pixel_array.astype(float)
    if stored.PhotometricInterpretation == "MONOCHROME1":
        tissue = tissue.max() - tissue
    rows, columns = np.mgrid[0 : tissue.shape[0], 0 : tissue.shape[1]] + 0.5
    lesion = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    for kind in ("tid1500", "cad"):
        outlines = _outlines(result, kind)
        assert len(outlines) == len(findings)
        best, mask = 0.0, np.zeros(tissue.shape, bool)
        for points, image in outlines:
            assert image == stored.SOPInstanceUID
            drawn = _inside(np.asarray(points), tissue.shape)
            dice = 2 * (drawn & lesion).sum() / (drawn.sum() + lesion.sum())
            if dice > best:
                best, mask = dice, drawn
        # How well a lesion is outlined is another matter: here it must be this place and no other.
        assert best > 0.45, f"{kind}: Dice {best:.2f}"
        middle = np.array([columns[mask].mean(), rows[mask].mean()])
        assert np.hypot(*(middle - (x, y))) < radius / 2
        around = ((columns - x) ** 2 + (rows - y) ** 2 <= (2 * radius) ** 2) & ~lesion & ~mask & (tissue > 0)
        assert tissue[mask].mean() > tissue[around].mean()
        # Shifted by its own width, or mirrored, it would be somewhere else: the comparison can fail.
        assert not (mask & mask[:, ::-1]).any() or abs(x - tissue.shape[1] / 2) < 2 * radius
