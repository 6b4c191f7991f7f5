"""The breast masks on real films: muscle and labels out, breast and lesions kept.

Removed part: what is foreground (blurred by 2 pixels, above 0.06) and not in ``Prepared.breast``.
Truth: ``mias/not-breast`` within the same foreground, so that empty background counts on neither
side. True breast: the largest connected part of the foreground outside ``not-breast``.
"""

import cv2
import numpy as np
import pytest

from mammoscan.image import preprocess
from tests.real import films

pytestmark = [pytest.mark.slow, films.SKIP]


def in_source(mask, geometry):
    """A working mask drawn on the source's grid."""
    out = np.zeros((geometry.source_height, geometry.source_width), bool)
    w, h = round(geometry.width / geometry.scale_x), round(geometry.height / geometry.scale_y)
    x0, y0 = int(geometry.x0), int(geometry.y0)
    drawn = cv2.resize(mask.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST) > 0
    out[y0 : y0 + h, x0 : x0 + w] = drawn
    return out[:, ::-1] if geometry.flipped else out


def breast_of(film):
    image = film.image()
    prepared = preprocess.prepare(image)
    return image, in_source(prepared.breast, prepared.geometry)


def box_share(breast, box):
    """Share of a box (cut to the picture) that lies in the breast."""
    h, w = breast.shape
    x0, y0, x1, y1 = (round(v) for v in box)
    part = breast[max(0, y0) : min(h, y1), max(0, x0) : min(w, x1)]
    return float(part.mean())


@pytest.fixture(scope="module")
def mias():
    """One row a film: odd patient number, Dice of the removed part, share of the breast lost; and circles."""
    rows, circles = [], []
    y, x = np.mgrid[:1024, :1024] + 0.5
    for film in films.mias():
        image, breast = breast_of(film)
        foreground = cv2.GaussianBlur(image.pixels, (0, 0), 2) > 0.06
        outside = films.not_breast(film)
        _, labels, stats, _ = cv2.connectedComponentsWithStats((foreground & ~outside).astype(np.uint8))
        true = labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])
        rows.append(
            (
                int(film.rows[0]["patient"].removeprefix("mias")) % 2,
                films.muscle_share_removed(foreground & ~breast, outside & foreground),
                (true & ~breast).sum() / true.sum(),
            )
        )
        for cx, cy, radius in films.circles(film):
            circles.append(breast[np.hypot(x - cx, y - cy) <= radius].mean())
    return np.array(rows), np.array(circles)


def test_muscle_and_labels_are_removed_and_the_breast_is_kept(mias):
    rows, _ = mias
    assert len(rows) == 258
    for name, chosen in (
        ("all", rows[:, 0] >= 0),
        ("tuned on", rows[:, 0] == 1),
        ("untouched", rows[:, 0] == 0),
    ):
        dice, lost = rows[chosen, 1], rows[chosen, 2]
        print(f"{name}: Dice {np.median(dice):.3f} (mean {dice.mean():.3f}), lost {lost.mean():.2%}")
        assert np.median(dice) >= 0.85
        assert lost.mean() < 0.02


def test_located_findings_stay_in_the_breast(mias):
    _, circles = mias
    print(f"{circles.size} circles: mean share kept {circles.mean():.2%}, half {(circles > 0.5).mean():.2%}")
    assert circles.size == 93
    assert circles.mean() >= 0.965


def test_cesm_lesions_stay_in_the_breast():
    shares = []
    for film in films.cesm():
        lesion = film.lesion_mask()
        shares.append(breast_of(film)[1][lesion].mean())
    print(f"{len(shares)} masks: mean share kept {np.mean(shares):.2%}")
    assert np.mean(shares) >= 0.98


def test_cbis_boxes_stay_in_the_breast():
    shares = [box_share(breast, box) for f in films.cbis()[::4] for breast in [breast_of(f)[1]] for box in f.occupied()]
    print(f"{len(shares)} boxes: mean share kept {np.mean(shares):.2%}")
    assert np.mean(shares) >= 0.965


def test_every_screening_picture_has_a_breast():
    some = films.folders.read(films.DATA, "rsna")[::8]
    assert len(some) == 349
    for film in some:  # an InputError names its film in the traceback's locals
        assert preprocess.prepare(film.image()).breast.mean() > 0.2
