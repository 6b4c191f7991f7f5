"""Labelled crops for training, made by the project's own preprocessing, segmentation and crops.

Cutting is the slow part that training shares with use, so its results are kept by blocks of films
and found again by a digest of the films, the configuration and the code that made them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import joblib
import numpy as np

from mammoscan.core.domain import Density as _Density
from mammoscan.core.domain import DensityReading, DensitySource, Laterality
from mammoscan.core.errors import InputError
from mammoscan.image import crops, dense, features, preprocess, segment, trace
from mammoscan.model.findings import overlap
from mammoscan.model.terms import CLASSES, KINDS, clinical_inputs
from mammoscan.training import augment, kept
from mammoscan.training import rank as ranking
from mammoscan.training.datasets.film import of_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared, Region
    from mammoscan.image.segment.ranking import Trees
    from mammoscan.image.trace import Tracer
    from mammoscan.training.datasets.film import Box, Film

log = logging.getLogger(__name__)

UNKNOWN_DENSITY = DensityReading(_Density.UNKNOWN, DensitySource.NONE, Laterality.UNKNOWN)
ALTERED = 2  # of a film's normal regions, so many of the most salient get altered versions
RANDOM = 2  # random places in a film without lesions, for comparison with earlier work; not in screening sets
FREE = 0.05  # a region that covers no lesion by more than this is a normal example
UNCLEAR = -1  # neither on a lesion nor free of one, or in a film of which nothing is known
BLOCK = 24  # films
# The code that decides what a crop is.
_CODE = ("image/preprocess.py", "image/pectoral.py", "image/segment/**/*.py", "image/trace.py", "image/features.py",
         "image/dense.py", "image/crops.py", "model/findings.py", "training/rank.py", "training/augment.py",
         "training/examples.py")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """How examples are made: crops, candidate regions a film, altered versions of a true box, seed."""

    cut: crops.CropGeometry
    regions: int
    versions: int
    seed: int


@dataclass(frozen=True, slots=True)
class Examples:
    """Candidate regions and true boxes of films, column by column.

    Rows (n): film: index in ``films``. kind: 'truth' (a lesion's own box), 'candidate' or
    'random' (a random place in a normal film). label: index
    in CLASSES, UNCLEAR where not known. lesion: number of the lesion in its film, -1. lesion_kind:
    index in KINDS, -1. box: (x0, y0, x1, y1) source pixels. centre: (x, y). rank: 0 for the film's most
    salient candidate, -1 for truth. classified: whether ``crops`` holds it. features: as
    ``features.REGION_FEATURES``, nan for truth. clinical: as CLINICAL. crops: uint8 (n, side, side).
    drawn: number of the lesion with an outline that a candidate is nearest to, -1; dice, grown_dice: Dice with
    it, of the candidate's outline as drawn and as grown.

    Versions (v): altered crops of the rows ``version_of``. Films (m): their facts; tiles: the whole
    breast, uint8 (m, 2, side, side). Lesions (k): every lesion, located or not hit, in ``lesion_film``;
    lesion_drawn: whether its set has its outline.
    """

    film: NDArray[np.int64]
    kind: NDArray[np.str_]
    label: NDArray[np.int64]
    lesion: NDArray[np.int64]
    lesion_kind: NDArray[np.int64]
    box: NDArray[np.float64]
    centre: NDArray[np.float64]
    rank: NDArray[np.int64]
    classified: NDArray[np.bool_]
    features: NDArray[np.float64]
    clinical: NDArray[np.float32]
    crops: NDArray[np.uint8]
    drawn: NDArray[np.int64]
    dice: NDArray[np.float64]
    grown_dice: NDArray[np.float64]
    version_of: NDArray[np.int64]
    versions: NDArray[np.uint8]
    source: NDArray[np.str_]
    name: NDArray[np.str_]
    patient: NDArray[np.str_]
    film_label: NDArray[np.str_]
    density: NDArray[np.str_]
    side: NDArray[np.str_]
    view: NDArray[np.str_]
    age: NDArray[np.float64]
    machine: NDArray[np.str_]
    percent_density: NDArray[np.float64]
    clear: NDArray[np.bool_]  # films known to hold no lesion
    searched: NDArray[np.bool_]  # films whose candidate regions were sought
    tiles: NDArray[np.uint8]
    lesion_film: NDArray[np.int64]
    lesion_number: NDArray[np.int64]
    lesion_label: NDArray[np.str_]
    lesion_box: NDArray[np.float64]
    lesion_of_kind: NDArray[np.int64]
    assessment: NDArray[np.str_]
    subtlety: NDArray[np.int64]
    lesion_drawn: NDArray[np.bool_]
    height: NDArray[np.int64]  # of the film's image, pixels
    judged: NDArray[np.int64]  # by how many candidates a film is judged: those that are classified whatever they hit

    def group(self) -> NDArray[np.str_]:
        """Patient of every row."""
        return np.asarray(self.patient[self.film])

    def set_of(self) -> NDArray[np.str_]:
        """Source of every row."""
        return np.asarray(self.source[self.film])


_ROWS = Examples.__slots__[:15]
_VERSIONS = Examples.__slots__[15:17]
_FILMS = (*Examples.__slots__[17:30], "height", "judged")
_LESIONS = Examples.__slots__[30:38]


def choose(films: Sequence[Film], *, screening: int, seed: int) -> list[Film]:
    """The films to use: all, but of sets of screening those of patients drawn by seed until ``screening`` are reached.

    Patients with and without cancer are drawn in turn, whole, so that every breast keeps its views.
    """
    of_patient: dict[str, list[int]] = {}
    for index, film in enumerate(films):
        if film.traits.screening:
            of_patient.setdefault(film.patient, []).append(index)
    rng = np.random.default_rng(seed)
    ill = {p for p, rows in of_patient.items() if any(films[i].label == "malignant" for i in rows)}
    queues = [list(rng.permutation(sorted(some))) for some in (ill, set(of_patient) - ill) if some]
    drawn: set[int] = set()
    while any(queues) and len(drawn) < screening:
        for queue in queues:
            if queue and len(drawn) < screening:
                drawn.update(of_patient[str(queue.pop())])
    return [film for index, film in enumerate(films) if not film.traits.screening or index in drawn]


def make(
    films: Sequence[Film],
    folder: Path,
    *,
    cut: crops.CropGeometry,
    regions: int,
    versions: int,
    searched: int,
    seed: int,
    jobs: int,
    rankings: Sequence[Trees],
    tracers: Sequence[Tracer],
    fold: Sequence[int],
) -> Examples:
    """Examples of all films, in their order; a film in which no breast is found gives no rows.

    Blocks of films are kept in ``folder`` and read back when the same command runs again. Candidate
    regions are sought in at most ``searched`` films of a set, whole patients drawn by ``seed``. rankings:
    of candidates, tracers: of their outlines, by fold; fold: of every film.
    """
    settings = Settings(cut, regions, versions, seed)
    search = _searched(films, searched, seed)
    fitted = [*(t.value.tobytes() for t in rankings), *(b"".join(k.tobytes() for k in t.kernels) for t in tracers)]
    values = [hashlib.sha256(content).hexdigest() for content in fitted]
    kinds = [(name, traits.classified, traits.screening) for name, traits in of_sets(films).items()]
    decided = (*dataclasses.astuple(settings), searched, kinds, *values, *fold)
    place = folder / f"examples-{kept.digest(films, decided, _CODE)}"
    place.mkdir(parents=True, exist_ok=True)
    blocks = [films[i : i + BLOCK] for i in range(0, len(films), BLOCK)]
    paths = [place / f"{number:05d}.npz" for number in range(len(blocks))]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    work = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(
        joblib.delayed(_block)(
            blocks[i],
            [
                (rankings[fold[f]], tracers[fold[f]]) if f in search else None
                for f in range(i * BLOCK, min((i + 1) * BLOCK, len(films)))
            ],
            paths[i],
            settings,
        )
        for i in missing
    )
    for done, _ in enumerate(work, 1):
        if done % 10 == 0:
            log.info("cutting crops: %d of %d blocks of %d films", done, len(missing), BLOCK)
    parts: list[dict[str, NDArray[Any]]] = []
    rows = count = 0
    for path in paths:
        with np.load(path, allow_pickle=False) as stored:
            part = {name: stored[name] for name in stored.files}
        # Indices count within the block on disk.
        part["version_of"] = part["version_of"] + rows
        part["film"], part["lesion_film"] = part["film"] + count, part["lesion_film"] + count
        rows, count = rows + len(part["label"]), count + len(part["source"])
        parts.append(part)
    return Examples(**{name: np.concatenate([part[name] for part in parts]) for name in Examples.__slots__})


def _searched(films: Sequence[Film], most: int, seed: int) -> set[int]:
    """Indices of the films in which candidate regions are sought."""
    of_patient: dict[str, dict[str, list[int]]] = {}
    for index, film in enumerate(films):
        of_patient.setdefault(film.source, {}).setdefault(film.patient, []).append(index)
    out: set[int] = set()
    for source, patients in sorted(of_patient.items()):
        rng = np.random.default_rng([seed, *source.encode()])
        count = 0
        for patient in rng.permutation(sorted(patients)):
            if count < most:
                out.update(patients[str(patient)])
                count += len(patients[str(patient)])
    return out


def _block(
    films: Sequence[Film], search: Sequence[tuple[Trees, Tracer] | None], path: Path,
    settings: Settings,
) -> None:  # fmt: skip
    cv2.setNumThreads(1)
    side = settings.cut.side
    tables: dict[str, list[Any]] = {name: [] for name in Examples.__slots__}
    for film, fitted in zip(films, search, strict=True):
        _add_film(tables, film, settings, fitted)
    shapes = {"crops": (0, side, side), "versions": (0, side, side), "tiles": (0, 2, side, side), "box": (0, 4),
              "lesion_box": (0, 4), "centre": (0, 2), "features": (0, len(features.REGION_FEATURES)),
              "clinical": (0, 8)}  # fmt: skip
    types: dict[str, type] = {"crops": np.uint8, "versions": np.uint8, "tiles": np.uint8, "clinical": np.float32}
    out: dict[str, NDArray[Any]] = {}
    for name, values in tables.items():
        hint = Examples.__annotations__[name]
        kind = types.get(name) or (str if "str_" in hint else bool if "bool_" in hint else
                                   np.int64 if "int64" in hint else np.float64)  # fmt: skip
        out[name] = np.array(values, kind) if values else np.zeros(shapes.get(name, (0,)), kind)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, **out)
    partial.rename(path)


def _add_film(
    tables: dict[str, list[Any]], film: Film, settings: Settings,
    fitted: tuple[Trees, Tracer] | None,
) -> None:  # fmt: skip
    """Append a film. fitted: what ranks and draws its candidates; None: none are sought."""
    cut, most, side = settings.cut, settings.regions, settings.cut.side
    judged = most if film.traits.classified is None else film.traits.classified
    try:
        prepared = preprocess.prepare(film.image())
    except InputError as error:
        log.warning("left out: %s/%s: %s", film.source, film.name, error.detail or error.reason.code)
        return
    lesions = film.lesions()
    header = film.header
    number = len(tables["source"])
    _append(tables, _FILMS, (
        film.source, film.name, film.patient, film.label, film.density, header.laterality.value, header.view.value,
        np.nan if header.age is None else header.age.years, film.rows[0].get("machine", "") if film.rows else "",
        features.image_features(prepared, dense.dense_pixels(prepared)).percent_density, film.is_normal(), fitted is not None, crops.whole_tiles(prepared, side=side),
        header.rows, judged,
    ))  # fmt: skip
    for index, lesion in enumerate(lesions):
        _append(tables, _LESIONS, (
            number, index, lesion.label, lesion.box, _kind_number(lesion.kind), lesion.assessment,
            -1 if lesion.subtlety is None else lesion.subtlety, bool(lesion.contour),
        ))  # fmt: skip
    clinical = clinical_inputs(header, header.density or UNKNOWN_DENSITY)
    rng = np.random.default_rng([settings.seed, *hashlib.sha256(film.name.encode()).digest()[:8]])
    empty = np.zeros((side, side), np.uint8)

    def add(
        region: Region | None, box: Box, kind: str, label: int, lesion: int, rank: int, values: Any,
        grown: Region | None = None,
    ) -> None:  # fmt: skip
        classified = region is None or lesion >= 0 or rank < judged
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) if region is None else region.centre
        nearest = (-1, np.nan, np.nan) if region is None or grown is None else _nearest(region, grown, masks)
        _append(tables, _ROWS, (
            number, kind, label, lesion, _kind_number(lesions[lesion].kind) if lesion >= 0 else -1, box, centre, rank,
            classified, values, clinical, crops.crop(prepared, box, cut) if classified else empty,
            *nearest,
        ))  # fmt: skip
        # Altered versions of whatever training draws: as many of a class's rows as of the others'.
        if classified and (label > 0 or (label == 0 and rank < ALTERED)):
            for _ in range(settings.versions if region is None else settings.versions // 4):
                tables["version_of"].append(len(tables["label"]) - 1)
                tables["versions"].append(augment.version(prepared, box, cut, rng=rng))

    masks = {i: ranking.drawn(o, (header.rows, header.columns)) for i, o in enumerate(lesions) if o.contour}
    nothing = np.full(len(features.REGION_FEATURES), np.nan)
    for index, lesion in enumerate(lesions):
        if lesion.label:
            add(None, lesion.box, "truth", CLASSES.index(lesion.label), index, -1, nothing)
    if film.is_normal() and not film.traits.screening:
        for box in _random_places(prepared, RANDOM, rng):
            add(None, box, "random", 0, -1, -1, nothing)
    if fitted is None:
        return
    trees, tracer = fitted
    grown = segment.segment(prepared, max_regions=most, trees=trees)
    segmented = trace.trace(grown, tracer)
    measured = features.region_features(segmented)
    for rank, (region, before) in enumerate(zip(segmented.regions, grown.regions, strict=True)):
        hit = next((i for i, lesion in enumerate(lesions) if marks(region.box, region.centre, lesion.box)), -1)
        if hit >= 0:
            name = lesions[hit].label
            label = CLASSES.index(name) if name else UNCLEAR
        else:
            free = all(overlap(region.box, box) < FREE for box in film.occupied())
            label = 0 if free and (lesions or film.is_normal()) else UNCLEAR
        add(region, region.box, "candidate", label, hit, rank, measured[rank], before)


def _nearest(region: Region, grown: Region, masks: dict[int, NDArray[np.bool_]]) -> tuple[int, float, float]:
    """The drawn lesion that a region is nearest to, and the Dice of its outline with it, as drawn and as grown."""
    if not masks:
        return -1, np.nan, np.nan
    index = max(masks, key=lambda i: ranking.dice(region, masks[i]))
    return index, ranking.dice(region, masks[index]), ranking.dice(grown, masks[index])


def _random_places(prepared: Prepared, count: int, rng: np.random.Generator) -> list[Box]:
    """Squares of 6 to 50 mm (evenly in the logarithm) around random points of the breast."""
    ys, xs = np.nonzero(prepared.breast)
    out = []
    for _ in range(count if len(ys) else 0):
        at = int(rng.integers(len(ys)))
        ((x, y),) = prepared.geometry.to_source(np.array([[xs[at] + 0.5, ys[at] + 0.5]]))
        half_mm = float(np.exp(rng.uniform(np.log(3.0), np.log(25.0))))
        dx = half_mm / prepared.geometry.mm / prepared.geometry.scale_x
        dy = half_mm / prepared.geometry.mm / prepared.geometry.scale_y
        out.append((float(x - dx), float(y - dy), float(x + dx), float(y + dy)))
    return out


def _append(tables: dict[str, list[Any]], names: Sequence[str], values: Sequence[Any]) -> None:
    for name, value in zip(names, values, strict=True):
        tables[name].append(value)


def _kind_number(kind: str) -> int:
    return KINDS.index(kind) if kind else -1


def marks(region: Box, centre: tuple[float, float], box: Box) -> bool:
    """Whether a region is about the lesion: its centre inside it, and their sizes alike."""
    inside = box[0] <= centre[0] <= box[2] and box[1] <= centre[1] <= box[3]
    area = (region[2] - region[0]) * (region[3] - region[1])
    truth = (box[2] - box[0]) * (box[3] - box[1])
    return inside and 0.2 < area / max(truth, 1e-6) < 4.0
