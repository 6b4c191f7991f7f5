"""Fit the function of ``mammoscan.image.dense`` that tells dense tissue from fat, and write ``models/density.json``.

``python -m mammoscan.training.dense_fit --data ../shared/data --out models/density.json --seed 1``

No set outlines dense tissue, so films are fitted by their class: the share of a film's pixels that is dense is
drawn to what is usual for its class by area (``AIMS``), film by film and in the mean of a class, with errors held
at 30 points because readers disagree. Phantoms, whose dense pixels are known, are fitted pixel by pixel. Films of
patients with an odd number are fitted, those of the others only reported; the constants here were chosen with
both in sight. Then the level is set for the medians of the classes, and the cuts between classes for the highest
kappa, both on odd patients. The same seed and films give the same file.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cv2
import joblib
import numpy as np

from mammoscan.core.domain import Density, Image, Laterality, View
from mammoscan.core.errors import InputError
from mammoscan.image import dense, preprocess
from mammoscan.model.terms import GRADES
from mammoscan.synthetic import phantom
from mammoscan.training.datasets import folders, images
from mammoscan.training.datasets.film import Film
from mammoscan.training.evaluate import quadratic_kappa

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from mammoscan.core.domain import Prepared

# Percent density by area that a class is drawn to, below the published one for b since a few films of each class are
# far denser; F, G and D are mini-MIAS's.
AIMS = {"a": 4.0, "b": 12.0, "c": 54.0, "d": 77.0, "F": 8.0, "G": 28.0, "D": 55.0}
SOURCES = ("cbis-mass", "rsna", "cesm", "cesm-cc", "mias")  # folders of DATA, in the order in which films are drawn
READINGS = {name: traits.readings for name, traits in folders.TRAITS.items() if traits.readings}
MOST = {True: 90, False: 50}  # films of a set's class that are taken, of odd and of even patients
PIXELS = {True: 200, False: 1500}  # of a film
PHANTOMS = {True: 400, False: 60}
FEW = 30  # films of a class up to which it weighs by their number
HIDDEN = 24
STEPS = 3000
RATE = 8e-3
DECAY = 3e-4  # of the weights
NOISE = 0.1  # standard deviations added to the measures while fitting
BY_PIXEL = 14.0  # weight of the phantoms
BY_CLASS = 1.5  # weight of a class's mean beside that of the single film
DECIDED = 0.3  # weight of a pixel's being clearly dense or clearly not
_GROUPS, _FILMS, _PHANTOMS, _DRAWN = 4, 16, 16, 48  # of a step: classes, films of each, phantoms, pixels of each


@dataclass(frozen=True, slots=True)
class Sample:
    """Some pixels of a film or phantom.

    measures: (k, m). part: share of the breast's pixels that may count. aim: its percent density, of a film that of
    its class. known: (k,), which pixels are dense; None for a film.
    """

    source: str
    density: str
    measures: NDArray[np.float32]
    part: float
    aim: float
    known: NDArray[np.bool_] | None = None

    def percent(self, judge: dense.Judge, shift: float = 0.0) -> float:
        """Percent density by a function, its level shifted."""
        return float(100 * self.part * (judge(self.measures) > -shift).mean())


def chosen(data: Path, source: str, *, odd: bool, seed: int) -> list[Film]:
    """Films of one set with a density, of patients with an odd or an even number, at most MOST of a class."""
    folder = data / source
    by_density = defaultdict(list)
    for film in folders.read_folder(folder, source):
        number = int(re.sub(r"\D", "", film.patient.rsplit("/", maxsplit=1)[-1]))
        if film.density in AIMS and film.shows_density() and number % 2 == odd:
            by_density[film.density].append(film)
    rng = np.random.default_rng(seed)
    return [
        films[n] for _, films in sorted(by_density.items()) for n in sorted(rng.permutation(len(films))[: MOST[odd]])
    ]


def of_film(film: Film, source: str, *, odd: bool, seed: Sequence[int]) -> list[Sample]:
    """One sample; of a film to fit a second one with other grey levels and another size. Empty if not usable."""
    rng = np.random.default_rng(seed)
    try:
        prepared = preprocess.prepare(film.image())
    except InputError:
        return []
    found = []
    for changed in (False, True)[: 1 + odd]:
        plain, mm = np.clip(prepared.plain, 0, 1), prepared.geometry.mm
        if changed:
            plain = np.clip(plain ** rng.uniform(0.85, 1.2) * rng.uniform(0.85, 1.15), 0, 1).astype(np.float32)
            mm *= rng.uniform(0.85, 1.2)
        measured = dense.measure(plain, prepared.breast, prepared.pectoral, mm=mm)
        if measured is not None:
            rows = rng.choice(len(measured.measures), PIXELS[odd])
            part = float(measured.where.sum() / on_grid(prepared.breast, measured).sum())
            found.append(Sample(source, film.density, measured.measures[rows], part, AIMS[film.density]))
    return found


def of_phantom(seed: Sequence[int], pixels: int) -> Sample:
    """A phantom with all that chance sets; share, size, grey levels, noise and spacing vary."""
    rng = np.random.default_rng(seed)
    share = float(rng.uniform(0.02, 0.85)) if rng.random() < 0.5 else list(phantom.GLANDULAR.values())[rng.integers(4)]
    height, view = int(rng.choice([450, 450, 600, 900])), (View.CC, View.MLO)[rng.integers(2)]
    depth, patient = float(rng.choice([95.0, rng.uniform(60, 125)])), int(rng.integers(100, 1_000_000))
    spec = phantom.Spec(Laterality.LEFT, view, Density.B, height=height, width=round(0.8 * height), depth_mm=depth,
                        patient=patient, glandular=share)  # fmt: skip
    stored, truth = phantom.render(spec, patient)
    grey = stored.astype(np.float32) / 4095
    if rng.random() < 0.3:
        grey = np.clip(grey ** rng.uniform(0.85, 1.2) * rng.uniform(0.8, 1.15), 0, 1)
    if rng.random() < 0.4:
        grey = np.clip(grey + rng.normal(0, rng.uniform(0.003, 0.025), grey.shape), 0, 1)
    header = images.plain_header(
        Path("phantom.png"), name="phantom", patient="phantom", laterality=Laterality.LEFT, view=view, rows=height,
        columns=spec.width, mm=truth.mm if rng.random() < 0.8 else None,
    )  # fmt: skip
    prepared = preprocess.prepare(Image(header, grey.astype(np.float32), np.zeros(grey.shape, bool)))
    measured = dense.measure(prepared.plain, prepared.breast, prepared.pectoral, mm=prepared.geometry.mm)
    if measured is None:
        raise ValueError("a phantom without a breast")
    where = on_grid(cropped(truth.dense, prepared), measured)[measured.where]
    rows = rng.choice(len(where), pixels)
    true = float(100 * truth.dense.sum() / (truth.breast & ~truth.pectoral).sum())
    part = float(measured.where.sum() / on_grid(prepared.breast, measured).sum())
    return Sample("phantom", "", measured.measures[rows], part, true, where[rows])


def on_grid(mask: NDArray[np.bool_], measured: dense.Measured) -> NDArray[np.bool_]:
    """A mask of the prepared picture on the grid of the measures."""
    size = measured.where.shape[::-1]
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5)


def cropped(mask: NDArray[np.bool_], prepared: Prepared) -> NDArray[np.bool_]:
    """The part of a stored picture's mask that was prepared, chest wall on the left."""
    g = prepared.geometry
    turned = mask[:, ::-1] if g.flipped else mask
    bottom, right = round(g.y0 + g.height / g.scale_y), round(g.x0 + g.width / g.scale_x)
    return turned[int(g.y0) : bottom, int(g.x0) : right]


def fit(films: Sequence[Sample], phantoms: Sequence[Sample], *, seed: int, steps: int = STEPS) -> dense.Judge:
    """The function that fits best, by Adam (Kingma & Ba 2015); all samples have as many pixels."""
    rng = np.random.default_rng(seed)
    pixels = np.stack([s.measures for s in (*films, *phantoms)])
    mean, deviation = pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1)) + np.float32(1e-4)
    pixels = np.clip((pixels - mean) / deviation, -dense.FARTHEST, dense.FARTHEST)
    parts = np.array([s.part for s in (*films, *phantoms)], np.float32)[:, None]
    aims = np.array([s.aim for s in (*films, *phantoms)], np.float32)[:, None] / 100
    truth = np.stack([s.known for s in phantoms if s.known is not None]).astype(np.float32)
    groups = defaultdict(list)
    for n, sample in enumerate(films):
        groups[sample.source, sample.density].append(n)
    chance = np.array(
        [
            (READINGS[source].weight if source in READINGS else 1.0) * min(1, len(g) / FEW)
            for (source, _), g in groups.items()
        ]
    )
    members = list(groups.values())
    m = pixels.shape[-1]
    shapes = ((m, HIDDEN, 0.25), (1, HIDDEN, 0.0), (HIDDEN, 1, 0.3), (m, 1, 0.1), (1, 1, 0.0))
    weights = [(rng.normal(0, 1, (a, b)) * scale).astype(np.float32) for a, b, scale in shapes]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    for step in range(steps):
        of = [rng.choice(members[g], _FILMS) for g in rng.choice(len(members), _GROUPS, p=chance / chance.sum())]
        which = np.concatenate([*of, len(films) + rng.choice(len(phantoms), _PHANTOMS)])[:, None]
        columns = rng.integers(0, pixels.shape[1], (len(which), _DRAWN))
        z = pixels[which, columns].reshape(-1, m)
        z += rng.standard_normal(z.shape, np.float32) * np.float32(NOISE)
        bent = np.tanh(z @ weights[0] + weights[1])
        p = 1 / (1 + np.exp(-np.clip(bent @ weights[2] + z @ weights[3] + weights[4], -30, 30)))
        p = p.reshape(len(which), _DRAWN)
        slope = _slope(
            p, parts[which[:, 0]], aims[which[:, 0]], truth[which[-_PHANTOMS:] - len(films), columns[-_PHANTOMS:]]
        )
        slope = slope.reshape(-1, 1)
        inner = slope @ weights[2].T * (1 - bent * bent)
        slopes = [z.T @ inner, inner.sum(0, keepdims=True), bent.T @ slope, z.T @ slope, slope.sum(0, keepdims=True)]
        rate = RATE * (1.0 if step < 0.6 * steps else 0.3 if step < 0.85 * steps else 0.1)
        for n, w in enumerate(weights):
            g = slopes[n] + 2 * DECAY * w * (n in {0, 2, 3})
            first[n] = 0.9 * first[n] + 0.1 * g
            second[n] = 0.999 * second[n] + 0.001 * g * g
            root = np.sqrt(second[n] / (1 - 0.999 ** (step + 1))) + 1e-8
            weights[n] = (w - rate * first[n] / (1 - 0.9 ** (step + 1)) / root).astype(np.float32)
    a, b, c, d, e = weights
    return dense.Judge(mean, deviation, a, b[0], c[:, 0], d[:, 0], float(e[0, 0]))


def _slope(p: NDArray[np.float32], parts: NDArray[np.float32], aims: NDArray[np.float32],
           truth: NDArray[np.float32]) -> NDArray[np.float32]:  # fmt: skip
    """Derivative of the loss by each pixel's sum, the phantoms' last; the whole is 20 times a mean square error."""
    films = len(p) - len(truth)
    off = p.mean(axis=1, keepdims=True) * parts - aims
    single, of_class = np.clip(off[:films], -0.3, 0.3), np.clip(off[:films], -0.35, 0.35)
    of_class = np.repeat(of_class.reshape(_GROUPS, -1).mean(axis=1), _FILMS)[:, None]
    pull = np.concatenate([40 / films * (single + BY_CLASS * of_class), BY_PIXEL * 40 / len(truth) * off[films:]])
    slope = pull * parts / _DRAWN * p * (1 - p)
    slope[:films] += DECIDED / p[:films].size * (1 - 2 * p[:films]) * p[:films] * (1 - p[:films])
    slope[films:] += BY_PIXEL * (p[films:] - truth) / truth.size
    return np.asarray(slope, np.float32)


def levelled(judge: dense.Judge, films: Iterable[Sample], phantoms: Iterable[Sample]) -> dense.Judge:
    """Its level moved to where classes' medians lie nearest to their aims, and the phantoms to the truth."""
    groups = defaultdict(list)
    for sample in films:
        if sample.density in "abcd":
            groups[sample.source, sample.density].append(sample)
    many = [g for g in groups.values() if len(g) >= FEW]
    phantoms = list(phantoms)

    def off(shift: float) -> float:
        # In units of the root: 4 points matter more at 16 % than at 77 %.
        medians = [abs(np.median([s.percent(judge, shift) for s in g]) - g[0].aim) / g[0].aim ** 0.5 for g in many]
        single = float(np.mean([abs(s.percent(judge, shift) - s.aim) / 5 for s in phantoms]))
        return single + (float(np.mean(medians)) if medians else 0.0)

    return dataclasses.replace(judge, level=judge.level + min(np.linspace(-0.6, 0.6, 25).tolist(), key=off))


def cuts(judge: dense.Judge, films: Iterable[Sample]) -> tuple[float, float, float]:
    """Percent densities between a, b, c and d of the highest quadratic kappa on the sets whose readings set them."""
    used = [s for s in films if s.source in READINGS and READINGS[s.source].cuts]
    percents = [s.percent(judge) for s in used]
    tried = itertools.product(range(6, 20, 2), range(22, 46, 3), range(48, 70, 3))
    a, b, c = max(tried, key=lambda between: kappa(used, percents, between))
    return float(a), float(b), float(c)


def kappa(films: Sequence[Sample], percents: Sequence[float], between: Sequence[float]) -> float:
    """Quadratic kappa of the readers' classes and those by percent density."""
    said = np.searchsorted(between, percents, side="right")
    truth = np.array(["abcd".index(s.density) for s in films])
    return quadratic_kappa(truth, said, 4, np.ones(len(films)))


def write(judge: dense.Judge, path: Path, **facts: object) -> None:
    """Write what ``dense.Judge.of`` reads, with five digits, after what is said of it."""
    fields = dataclasses.asdict(judge)
    numbers = {name: np.vectorize(lambda v: float(f"{v:.5g}"))(value).tolist() for name, value in fields.items()}
    what = "The function of mammoscan.image.dense: which pixels are dense tissue."
    path.write_text(json.dumps({"what": what, **facts, **numbers}, indent=0) + "\n", encoding="utf-8")


def tell(judge: dense.Judge, films: Iterable[Sample], phantoms: Iterable[Sample]) -> None:
    """Print quartiles by set and class, and how far off the phantoms are."""
    groups = defaultdict(list)
    for sample in films:
        groups[sample.source, sample.density].append(sample.percent(judge))
    for (source, density), values in groups.items():
        click.echo(f"{source:10} {density} {len(values):4} {np.percentile(values, (25, 50, 75)).round(1)}")
    off = np.array([abs(s.percent(judge) - s.aim) for s in phantoms])
    click.echo(f"phantoms {len(off)}: mean error {off.mean():.1f}, over 5: {(off > 5).sum()}, worst {off.max():.1f}")


def sampled(data: Path, keep: Path | None, *, odd: bool, seed: int, jobs: int) -> tuple[list[Sample], list[Sample]]:
    """Samples of films and of phantoms, those to fit (odd) or those to report; read from ``keep`` if it is there."""
    if keep is not None and keep.exists():
        kept: tuple[list[Sample], list[Sample]] = joblib.load(keep)
        return kept
    films = [(film, source) for source in SOURCES for film in chosen(data, source, odd=odd, seed=seed)]
    work = joblib.Parallel(n_jobs=jobs, batch_size=4)
    of = work(joblib.delayed(of_film)(f, s, odd=odd, seed=(seed, odd, n)) for n, (f, s) in enumerate(films))
    click.echo(f"{len(films)} films, {sum(not o for o in of)} of them not usable")
    drawn = work(joblib.delayed(of_phantom)((seed, odd, n), PIXELS[odd]) for n in range(PHANTOMS[odd]))
    found = list(itertools.chain.from_iterable(of)), list(drawn)
    if keep is not None:
        joblib.dump(found, keep)
    return found


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="folder of the prepared sets")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="density.json to write")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--samples",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="folder that keeps "
    "what was read of the films, so that another fit need not; empty it for another seed or other data",
)
@click.option("--jobs", type=int, default=2, show_default=True)
def main(data: Path, out: Path, seed: int, samples: Path | None, jobs: int) -> None:
    """Fit the function of percent density."""
    films, phantoms = sampled(data, samples and samples / "odd", odd=True, seed=seed, jobs=jobs)
    judge = levelled(fit(films, phantoms, seed=seed), films, phantoms)
    between = cuts(judge, films)
    write(
        judge, out,
        made_by=f"python -m mammoscan.training.dense_fit --data <folder of the prepared sets> --out models/density.json --seed {seed}",
        fitted_on=f"{len(films)} samples of films of patients with an odd number ({', '.join(SOURCES)}), each by the "
        f"class that readers gave, and {len(phantoms)} phantoms of known share; the constants of the fit, with the films of even patients in sight. Licence as that of the model beside "
        "it: non-commercial research.",
        aims=AIMS, cuts=between,
    )  # fmt: skip
    films, phantoms = sampled(data, samples and samples / "even", odd=False, seed=seed, jobs=jobs)
    tell(judge, films, phantoms)
    for source in folders.SOURCES:
        mine = [s for s in films if s.source == source and s.density in GRADES]
        if mine:
            click.echo(
                f"{source}: kappa {kappa(mine, [s.percent(judge) for s in mine], between):.2f} with cuts {between}"
            )


if __name__ == "__main__":
    main()
