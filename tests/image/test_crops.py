"""Crops show a region with as much around it as the model's geometry says."""

import json

import cv2
import numpy as np
import pytest

from mammoscan.core.config import AnalysisConfig
from mammoscan.core.domain import Analysed, Density, Laterality, RegionKind, View
from mammoscan.image import crops
from mammoscan.image.analyse import analyse
from mammoscan.synthetic.archive import stored_values
from mammoscan.synthetic.dicom import Shown, file_bytes, mammogram_dataset
from mammoscan.synthetic.phantom import Lesion, Spec, render
from tests.report import sources


def test_a_geometry_is_read_back_as_it_was_written():
    cut = crops.CropGeometry(160, 1.6)
    assert crops.CropGeometry.of(json.loads(json.dumps(cut.facts()))) == cut


def test_the_surround_is_what_the_region_leaves_at_each_edge():
    assert crops.CropGeometry(160, 1.6).surround == pytest.approx(0.1875)
    assert crops.CropGeometry(160, 1.0).surround == 0


def test_the_configuration_has_the_digest_that_results_of_before_were_kept_under():
    """What crops are was a part of the configuration once: no result is redone since it moved into the model."""
    assert AnalysisConfig().digest() == "8e723b369b6de7da02ec69b09b84ef685ecfb9ea2869f7f7a6d7b86024e1ef3f"
    assert AnalysisConfig(max_findings=1).digest() == "c919bae40a4fc32c46d6005424fea8e2a180d12cd3ea7fe3f1c3a4f3b443b0da"


def test_an_image_is_analysed_with_the_crops_that_were_asked_for(tmp_path):
    header = _phantom(tmp_path / "source.dcm")
    near, far = (analyse(header, AnalysisConfig(), crops.CropGeometry(side, c)) for side, c in ((64, 1.0), (96, 3.0)))
    assert isinstance(near, Analysed), near
    assert isinstance(far, Analysed), far
    assert len(near.regions) == len(far.regions) > 0
    assert near.crops.shape[1:] == near.tiles.shape[1:] == (64, 64)
    assert far.crops.shape[1:] == far.tiles.shape[1:] == (96, 96)
    # The wide crop's middle third shows what the narrow one shows, where neither is held at its smallest size.
    wide = [i for i, r in enumerate(near.regions) if _side_mm(near, r) > crops.SMALLEST_MM]
    assert wide
    for index in wide:
        middle = cv2.resize(far.crops[index][32:64, 32:64], (64, 64), interpolation=cv2.INTER_LINEAR).astype(float)
        assert np.corrcoef(middle.ravel(), near.crops[index].ravel())[0, 1] > 0.9


def _phantom(path):
    lesion = Lesion(RegionKind.MASS, malignant=True, radius_mm=10.0)
    spec = Spec(Laterality.LEFT, View.CC, Density.A, (lesion,), 900, 720, patient=4)
    pixels, truth = render(spec, 11)
    shown = Shown(bits=spec.bits)
    ds = mammogram_dataset(
        stored_values(pixels, shown), laterality=spec.laterality, view=View.CC, subject=sources.SUBJECT, shown=shown,
        spacing_mm=truth.mm,
    )  # fmt: skip
    path.write_bytes(file_bytes(ds))
    return sources.read(path)


def _side_mm(analysed, region):
    geometry = analysed.geometry
    return max(region.box[2] - region.box[0], region.box[3] - region.box[1]) * geometry.scale_x * geometry.mm
