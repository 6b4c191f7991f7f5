"""Declared air on all mini-MIAS films: the attribute changes no result.

Three forms of a film in 8 bits: as it is with its zeros declared; with everything beyond 1 mm around the bright
part made zero, declared; and the same with its air painted with the highest value, in 12 bits, and that declared.
"""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mammoscan.core.domain import Laterality, View
from mammoscan.image import morphology, pixels, preprocess
from mammoscan.synthetic.dicom import Shown, Subject, mammogram_dataset
from tests.real import films

pytestmark = [pytest.mark.slow, films.SKIP, pytest.mark.timeout(3600)]
BRIGHT = 12  # of 255, blurred: the film's foreground


def _prepared(film, values, *, bits=8, padding=None, window=True):
    shown = Shown(bits=bits, window=((1 << (bits - 1), 1 << bits),) if window else (), padding=padding)
    ds = mammogram_dataset(
        values.astype(np.uint16),
        laterality=Laterality(film.rows[0]["laterality"]),
        view=View.MLO,
        subject=Subject("MIAS"),
        shown=shown,
        spacing_mm=0.2,
    )
    return preprocess.prepare(pixels.display_image(ds, replace(film.header, rows=ds.Rows, columns=ds.Columns)))


def _near(values):
    """What lies within 1 mm of the film's largest bright part."""
    bright = (cv2.GaussianBlur(values.astype(np.float32), (0, 0), 2) > BRIGHT).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bright)
    breast = morphology.fill_holes(labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return cv2.dilate(breast.astype(np.uint8), np.ones((11, 11), np.uint8)) > 0


def _without_air(values):
    """The film with zero beyond that."""
    return np.where(_near(values), values, 0)


def _area(prepared):
    return float(prepared.breast.sum()) * prepared.geometry.mm**2


def _compare(form):
    """Relative differences of the area, and how many films are the same in every pixel and mask."""
    differences, same = [], 0
    for film in films.mias():
        values = np.round(film.image().pixels * 255).astype(int)
        one, other = form(film, values)
        differences.append(abs(_area(other) / _area(one) - 1))
        same += np.array_equal(one.breast, other.breast) and np.array_equal(one.plain, other.plain)
    worst, median = max(differences), float(np.median(differences))
    print(f"\n{len(differences)} films: area median {median:.2%}, worst {worst:.2%}, identical {same}")
    assert len(differences) == 258
    assert median <= 0.01
    assert worst <= 0.03
    return same


def test_zeros_that_are_declared_change_nothing():
    assert _compare(lambda f, v: (_prepared(f, v), _prepared(f, v, padding=0))) > 250


def test_air_made_zero_and_declared_changes_nothing():
    def form(film, values):
        clean = _without_air(values)
        return _prepared(film, clean), _prepared(film, clean, padding=0)

    assert _compare(form) > 250


def test_air_that_is_declared_changes_nothing_without_a_window():
    def form(film, values):
        clean = _without_air(values)
        return _prepared(film, clean, window=False), _prepared(film, clean, padding=0, window=False)

    _compare(form)


def test_air_that_was_painted_over_changes_nothing():
    def form(film, values):
        clean = _without_air(values) * 16
        painted = np.where(_near(values), clean, 4095)
        return _prepared(film, clean, bits=12), _prepared(film, painted, bits=12, padding=4095)

    assert _compare(form) > 250
