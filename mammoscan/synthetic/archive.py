"""The demo archive: synthetic studies of several pretended vendors, their truth, awkward neighbours.

``write_demo`` fills ``OUT/archive`` and writes the truth to ``OUT/labels.csv``, one row a lesion (an
image without one has a single row with an empty location):

=================== =====================================================================
sop_instance_uid    of the image
path                below OUT/archive, with forward slashes
patient_id          as in the file
study_instance_uid  as in the file
laterality, view    L or R; CC or MLO
label               normal, benign or malignant
x, y, radius        centre and radius in source image pixels (corner convention)
kind                mass or calcification
density             a to d, of the whole breast
age                 whole years
=================== =====================================================================
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from mammoscan.core.domain import Density, Laterality, RegionKind, View
from mammoscan.synthetic import neighbours
from mammoscan.synthetic.dicom import (
    FOR_PRESENTATION,
    SECONDARY_CAPTURE,
    Shown,
    Subject,
    Vendor,
    file_bytes,
    mammogram_dataset,
)
from mammoscan.synthetic.phantom import Lesion, Spec, Truth, render

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import FileDataset

SEED = 20260101
SIZE = (900, 720)
COLUMNS = (
    "sop_instance_uid",
    "path",
    "patient_id",
    "study_instance_uid",
    "laterality",
    "view",
    "label",
    "x",
    "y",
    "radius",
    "kind",
    "density",
    "age",
)
_L, _R = Laterality.LEFT, Laterality.RIGHT
_FOUR = ((_L, View.CC), (_R, View.CC), (_L, View.MLO), (_R, View.MLO))
_OVAL = Lesion(RegionKind.MASS, malignant=False, radius_mm=7.0)
_SMALL_OVAL = replace(_OVAL, radius_mm=4.5)
_SPICULATED = Lesion(RegionKind.MASS, malignant=True, radius_mm=6.5)
_SMALL_SPICULATED = replace(_SPICULATED, radius_mm=4.5)
_GRAINS = Lesion(RegionKind.CALCIFICATION, malignant=False, radius_mm=5.0)
_PLEOMORPHIC = Lesion(RegionKind.CALCIFICATION, malignant=True, radius_mm=6.0)


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """One study of the archive. lesions: those of a side, seen in both of its views."""

    folder: str
    subject: Subject
    vendor: Vendor
    shown: Shown
    syntax: str
    density: Density
    age: int
    lesions: dict[Laterality, tuple[Lesion, ...]] = field(default_factory=dict)
    views: tuple[tuple[Laterality, View], ...] = _FOUR
    sop_class: str = FOR_PRESENTATION
    spacing_known: bool = True
    marker: bool = False
    suffix: str = ".dcm"
    enlarge: float = 1.0
    depth_mm: float = 95.0


def _subject(number: int, name: str, **more: str) -> Subject:
    return Subject(f"DEMO-{number:04d}", name, study_key=str(number), accession=f"DEMO-A{number:04d}", **more)


PLANS = (
    StudyPlan(
        "northwind/study-1",
        _subject(1, "Demo^Anna", birth_date="19630412", age="061Y"),
        Vendor("Northwind Demo Imaging", "Aurora D", "NW1"),
        Shown(window=((2048, 4096),), function="LINEAR"),
        JPEGLosslessSV1,
        Density.B,
        61,
        {_L: (_SPICULATED,)},
        marker=True,
    ),
    StudyPlan(
        "northwind/study-2",
        _subject(2, "Demo^Bj\u00f6rk^\u00c5sa", birth_date="19710903", character_set="ISO_IR 100"),
        Vendor("Northwind Demo Imaging", "Aurora D", "NW1"),
        Shown("MONOCHROME1", window=((2047, 2600), (1500, 900)), function="SIGMOID"),
        JPEG2000Lossless,
        Density.C,
        53,
        {_R: (_OVAL,)},
    ),
    StudyPlan(
        "harbour/2025/03/10",
        _subject(3, "Demo^Hanako", age="047Y"),
        Vendor("Harbour Demo Systems", "Lantern 3", "HB7"),
        Shown(bits=14, window=((8191.5, 16383),), function="LINEAR_EXACT"),
        JPEGLSLossless,
        Density.D,
        47,
        {_L: (_PLEOMORPHIC,)},
        suffix="",
        depth_mm=78,
    ),
    StudyPlan(
        "harbour/2025/03/11",
        _subject(4, "Demo^Olga", birth_date="19551130", age="069Y"),
        Vendor("Harbour Demo Systems", "Lantern 3", "HB7"),
        Shown(bits=12, window=((2048, 4096),), padding=0),
        RLELossless,
        Density.A,
        69,
        {_R: (_SMALL_SPICULATED,), _L: (_SMALL_OVAL,)},
        marker=True,
        depth_mm=108,
    ),
    StudyPlan(
        "inbox",
        _subject(5, ""),
        Vendor("Meadow Demo Works", "Clover", "MD2"),
        Shown("MONOCHROME1", bits=16, window=((32768, 52000),), function="SIGMOID"),
        ImplicitVRLittleEndian,
        Density.B,
        -1,
        {_R: (_GRAINS,)},
        views=_FOUR[:2],
        suffix=".ima",
    ),
    StudyPlan(
        "deep/er/and/deeper",
        _subject(6, "Demo^Clara", age="058Y"),
        Vendor("Meadow Demo Works", "Clover", "MD2"),
        Shown(lut=tuple(range(0, 65536, 16))),
        DeflatedExplicitVRLittleEndian,
        Density.C,
        58,
        {},
        depth_mm=88,
    ),
    StudyPlan(
        "film",
        _subject(7, "Demo^Dora", birth_date="19480220"),
        Vendor("Old Demo Films", "Drum scanner", "FILM"),
        Shown(bits=8),
        ExplicitVRLittleEndian,
        Density.A,
        77,
        {_L: (_OVAL,), _R: (_SPICULATED,)},
        sop_class=SECONDARY_CAPTURE,
        spacing_known=False,
        marker=True,
    ),
    StudyPlan(
        "native",
        _subject(8, "Demo^Emil", age="064Y", sex="M"),
        Vendor("Northwind Demo Imaging", "Aurora HD", "NW2"),
        Shown(bits=12, window=((2048, 4096),)),
        JPEGLosslessSV1,
        Density.B,
        64,
        {_L: (_PLEOMORPHIC,)},
        views=_FOUR[:1],
        enlarge=2.7,
    ),
)


def write_demo(out: Path, *, seed: int = SEED, size: tuple[int, int] = SIZE) -> tuple[Path, ...]:
    """Write the archive and its labels; the same arguments give the same bytes.

    Parameters
    ----------
    out
        Folder; gets ``archive`` and ``labels.csv``.
    size
        Rows and columns of the ordinary images; one study is 2.7 times as fine.

    Returns
    -------
    tuple
        Every path written, labels last.
    """
    root = out / "archive"
    rows: list[tuple[str, ...]] = []
    written: list[Path] = []
    first: list[FileDataset] = []
    for number, plan in enumerate(PLANS):
        for relative, ds, truth in study_images(plan, seed=seed + number, size=size):
            path = root / relative
            written.append(_write(path, file_bytes(ds)))
            rows.extend(_label_rows(plan, relative, ds, truth))
            first.append(ds)
    for relative, content in neighbours.files(first, written[0].read_bytes()):
        written.append(_write(root / relative, content))
    written.append(_write(out / "labels.csv", _table(rows)))
    return tuple(written)


def study_images(plan: StudyPlan, *, seed: int, size: tuple[int, int] = SIZE) -> list[tuple[str, FileDataset, Truth]]:
    """The images of one study: path below the archive, data set, truth."""
    out = []
    height, width = (round(s * plan.enlarge) for s in size)
    for number, (side, view) in enumerate(plan.views, start=1):
        spec = Spec(
            side,
            view,
            plan.density,
            plan.lesions.get(side, ()),
            height,
            width,
            depth_mm=plan.depth_mm,
            bits=plan.shown.bits,
            marker=plan.marker,
            patient=seed,
        )
        pixels, truth = render(spec, seed * 10 + number)
        ds = mammogram_dataset(
            stored_values(pixels, plan.shown),
            laterality=side,
            view=view,
            subject=plan.subject,
            vendor=plan.vendor,
            shown=plan.shown,
            spacing_mm=truth.mm if plan.spacing_known else None,
            transfer_syntax=plan.syntax,
            sop_class=plan.sop_class,
            instance=number,
            series=number,
        )
        name = f"{side.value}-{view.value}" if plan.suffix else f"IM{number:06d}"
        out.append((f"{plan.folder}/{name}{plan.suffix}", ds, truth))
    return out


def stored_values(pixels: NDArray[np.uint16], shown: Shown) -> NDArray[Any]:
    """Display-sense pixels as the stored values of a photometric interpretation."""
    return (1 << shown.bits) - 1 - pixels if shown.photometric == "MONOCHROME1" else pixels


def _label_rows(plan: StudyPlan, relative: str, ds: FileDataset, truth: Truth) -> list[tuple[str, ...]]:
    identity = (
        str(ds.SOPInstanceUID),
        relative,
        plan.subject.patient_id,
        str(ds.StudyInstanceUID),
        ds.ImageLaterality,
        ds.ViewPosition,
    )
    density_age = (plan.density.value, str(plan.age) if plan.age >= 0 else "")
    if not truth.lesions:
        return [(*identity, "normal", "", "", "", "", *density_age)]
    return [
        (
            *identity,
            "malignant" if p.lesion.malignant else "benign",
            f"{p.x:.1f}",
            f"{p.y:.1f}",
            f"{p.radius:.1f}",
            "mass" if p.lesion.kind is RegionKind.MASS else "calcification",
            *density_age,
        )
        for p in truth.lesions
    ]


def _table(rows: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
