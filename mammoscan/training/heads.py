"""The linear heads on frozen layers: of regions (a lesion or not; malignant or benign) and of whole breasts (density).

What they are fitted on is computed once for all folds; what they say of a case that scores are fitted on comes
from heads that had not seen its patient (``held_out``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.model import outputs
from mammoscan.model.terms import CLASSES, CLINICAL, GRADES, MALIGNANT, TISSUES
from mammoscan.training import linear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mammoscan.model.scores import Linear
    from mammoscan.training.examples import Examples
    from mammoscan.training.maps import MapStore
    from mammoscan.training.region import Cases

# Of the heads' penalties (scikit-learn's C), by head.
STRENGTH = {"lesion": 3e-4, "pathology": 5e-4, "tissue": 1e-4, "grade": 3e-4}


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is computed once for all folds.

    cases: by row. record: a row's record, -1 where it is not classified. versions: (v,) records of the
    altered crops. mirrored: (n,) records of the mirrored crops, -1 where a row has none. tiles: (films,
    POOLED), the whole breast. pooled: all records.
    """

    cases: Cases
    mirrored: NDArray[np.intp]
    versions: NDArray[np.intp]
    tiles: NDArray[np.float32]
    pooled: NDArray[np.float16]


def freeze(examples: Examples, store: MapStore) -> Frozen:
    """Run the frozen layers over everything that any fold needs."""
    from mammoscan.training.region import Cases

    count = len(examples.label)
    record = np.full(count, -1, np.intp)
    wanted = np.flatnonzero(examples.classified)
    record[wanted] = store.rows(examples.crops[wanted])
    versions = store.rows(examples.versions)
    # Only for the ablation, which asks for boxes and random places; twice the work in use would buy little.
    mirrored = np.full(count, -1, np.intp)
    boxes = np.flatnonzero(examples.classified & (examples.kind != "candidate"))
    mirrored[boxes] = store.rows(np.ascontiguousarray(examples.crops[boxes][:, :, ::-1]))
    films = len(examples.source)
    of_tiles = store.rows(examples.tiles.reshape(-1, *examples.tiles.shape[2:])).reshape(films, 2)
    pooled = store.pooled()
    by_row: dict[int, list[int]] = {}
    for row, found in zip(examples.version_of.tolist(), versions.tolist(), strict=True):
        by_row.setdefault(row, []).append(found)
    graded = (examples.label < 1) | two_sided(examples, np.arange(count))
    cases = Cases(
        maps=store.maps(), record=record, versions={row: np.array(v, np.intp) for row, v in by_row.items()},
        label=examples.label, lesion_kind=examples.lesion_kind, clinical=examples.clinical,
        source=examples.set_of(), true_box=examples.kind == "truth", graded=graded, crop=store.crop,
    )  # fmt: skip
    return Frozen(cases, mirrored, versions, pooled[of_tiles].astype(np.float32).mean(axis=1), pooled)


def two_sided(examples: Examples, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which rows are of a set that has benign and malignant lesions among them: what else tells the two
    apart would be the look of a set. All rows where no set has both.
    """
    source, label = examples.set_of()[rows], examples.label[rows]
    both = [s for s in np.unique(source) if {1, 2} <= set(label[source == s].tolist())]
    return np.isin(source, both) if both else np.ones(len(rows), bool)


def class_weights(label: NDArray[np.int64], source: NDArray[np.str_]) -> NDArray[np.float64]:
    """Weights that make classes alike, and within a class sets by the root of their size; mean 1."""
    weight = np.zeros(len(label))
    for one in np.unique(label):
        _, index, sizes = np.unique(source[label == one], return_inverse=True, return_counts=True)
        part = 1.0 / np.sqrt(sizes[index])
        weight[label == one] = part / part.sum()
    return np.asarray(weight / weight.mean())


def region_heads(examples: Examples, frozen: Frozen, rows: NDArray[np.intp]) -> dict[str, Linear]:
    """Normal or lesion, from all rows; benign or malignant, from the lesions of sets that have both."""
    lesions = rows[examples.label[rows] > 0]
    lesions = lesions[two_sided(examples, lesions)]
    out = {}
    for name, chosen, least in (("lesion", rows, 1), ("pathology", lesions, MALIGNANT)):
        altered = np.isin(examples.version_of, chosen)
        both = np.concatenate([chosen, examples.version_of[altered]])
        versions = frozen.pooled[frozen.versions[altered]].astype(np.float32)
        facts = examples.clinical[examples.version_of[altered]]
        x = np.concatenate([_linear_inputs(frozen, chosen), np.hstack([versions, facts])])
        label = (examples.label[both] >= least).astype(np.int64)
        weight = class_weights(label, examples.set_of()[both])
        out[name] = linear.fit_linear(x, label, weight, classes=2, strength=STRENGTH[name])
    return out


def say_regions(
    heads: dict[str, Linear], frozen: Frozen, rows: NDArray[np.intp], **instead: NDArray[Any]
) -> NDArray[np.float64]:
    """Class logits (n, 3) of rows. instead: ``records``, ``clinical`` in the place of the rows' own."""
    x = _linear_inputs(frozen, rows, **instead)
    return outputs.class_logits(*(outputs.head_odds(heads[name].logits(x)) for name in ("lesion", "pathology")))


def held_out(
    examples: Examples, frozen: Frozen, of_row: NDArray[np.int64], folds: Sequence[int]
) -> NDArray[np.float64]:
    """Class logits (n, 3) of the rows of some folds, each by linear heads fitted on the others of them; else nan."""
    out = np.full((len(of_row), len(CLASSES)), np.nan)
    known = frozen.cases.record >= 0
    for one in folds:
        others = np.isin(of_row, [f for f in folds if f != one])
        heads = region_heads(examples, frozen, np.flatnonzero(others & known & (examples.label >= 0)))
        rows = np.flatnonzero((of_row == one) & known)
        out[rows] = say_regions(heads, frozen, rows)
    return out


def film_heads(examples: Examples, frozen: Frozen, films: NDArray[np.bool_]) -> dict[str, Linear]:
    """Heads on the whole breast: a to d; F, G, D, of which there are fewer, led by the former."""
    out: dict[str, Linear] = {}
    for name, terms in (("grade", GRADES), ("tissue", TISSUES)):
        known = np.array([terms.index(d) if d in terms else -1 for d in examples.density.tolist()], np.int64)
        rows = np.flatnonzero(films & (known >= 0))
        if len(np.unique(known[rows])) < 2:
            continue
        out[name] = linear.fit_linear(
            _film_inputs(frozen, rows), known[rows], np.ones(len(rows)), classes=len(terms), strength=STRENGTH[name],
            lead=out.get("grade"),
        )  # fmt: skip
    return out


def say_films(
    heads: dict[str, Linear], name: str, frozen: Frozen, films: NDArray[np.bool_], size: int
) -> NDArray[np.float64]:
    """Logits (films, size) of a head; nan for other films, and where there is no such head."""
    out = np.full((len(films), size), np.nan)
    rows = np.flatnonzero(films)
    if name in heads:
        out[rows] = heads[name].logits(_film_inputs(frozen, rows))
    return out


def _linear_inputs(
    frozen: Frozen, rows: NDArray[np.intp], *, records: NDArray[np.intp] | None = None,
    clinical: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    pooled = frozen.pooled[frozen.cases.record[rows] if records is None else records].astype(np.float32)
    return np.hstack([pooled, frozen.cases.clinical[rows] if clinical is None else clinical])


def _film_inputs(frozen: Frozen, films: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.hstack([frozen.tiles[films], np.zeros((len(films), len(CLINICAL)), np.float32)])
