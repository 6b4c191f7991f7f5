"""What a training leaves: the bundle with its card, metrics as JSON and CSV, predictions, figures."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan import __version__
from mammoscan.core.errors import ModelError
from mammoscan.image import trace
from mammoscan.image.segment.ranking import FILE
from mammoscan.model import bundle, outputs
from mammoscan.model.bundle import DESCRIPTION, FORMAT
from mammoscan.model.terms import CLASSES, CLINICAL, GRADES, KINDS, TISSUES, logistic
from mammoscan.training import card, clinical, crossval, evaluate, rank, stacking, tracing, train

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mammoscan.image.segment.ranking import Trees
    from mammoscan.image.trace import Tracer
    from mammoscan.training.datasets.traits import Traits
    from mammoscan.training.evaluate import Evaluation, Figure
    from mammoscan.training.train import Outcome, TrainConfig

AGREES = 1e-2  # largest difference of a score that half precision may make
CHECKED = 128  # crops on which that is tested
_FREE = {"CC BY 3.0", "CC BY 4.0"}  # terms that allow every use with attribution
LIMITS = (
    "Performance on archives other than those of the training sets is unknown until audited there.",
    "Not calibrated to a screening prevalence: the score is no probability of cancer for a patient.",
    "For research and second reading only; asserts no diagnosis.",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a model is called in every result that it makes, and the command that made it."""

    name: str
    version: str
    command: str


def write(
    out: Path, outcome: Outcome, found: Evaluation, start: dict[str, NDArray[Any]],
    segmenting: tuple[Trees, Tracer], config: TrainConfig, origin: Origin,
) -> None:  # fmt: skip
    """Write the bundle and everything beside it into ``out``. segmenting: ranking and outlines, fitted on all patients.

    Raises
    ------
    ModelError
        When the weights in half precision give other scores than in training.
    """
    partial = out / "weights.partial.npz"
    np.savez(partial, allow_pickle=False, **train.shipped_arrays(start, outcome.final))
    partial.rename(out / "weights.npz")
    ranking, outlines = segmenting
    rank.save(ranking, out / FILE)
    tracing.save(outlines, out / trace.FILE)
    facts = description(out, outcome, found, config, origin)
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (out / DESCRIPTION).write_text(text, encoding="utf-8")
    facts["half_precision"] = check_half_precision(out, outcome)
    (out / DESCRIPTION).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _metrics(out, found)
    predictions(out / "predictions.csv", outcome)
    (out / "README.md").write_text(card.text(facts, outcome, found), encoding="utf-8")


def check_half_precision(out: Path, outcome: Outcome) -> dict[str, Any]:
    """Compare the bundle's scores with training's, in single precision, on its validation crops."""
    from mammoscan.model.classify import Classifier

    e, odds = outcome.examples, outputs.malignant_odds(outcome.own.logits[crossval.CHOSEN])
    rows = np.flatnonzero(np.isfinite(odds))
    rows = rows[np.linspace(0, len(rows) - 1, min(CHECKED, len(rows))).astype(int)]
    place = stacking.places(e)[rows]
    said = Classifier(bundle.load(out)).predict(e.crops[rows], e.clinical[rows], e.features[rows], place)
    largest = float(np.abs(said.malignancy - logistic(odds[rows])).max())
    if largest > AGREES:
        raise ModelError(f"half precision changes a score by {largest:.4f}", path=out / "weights.npz",
                         remedy="ship single precision")  # fmt: skip
    return {"crops": len(rows), "largest_difference": largest}


def licence(sets: Mapping[str, Traits]) -> str:
    """Terms of the weights, from those of the sets they were trained on."""
    free = all(traits.terms in _FREE for traits in sets.values())
    head = "With attribution" if free else "Non-commercial research only"
    return f"{head}: trained on " + ", ".join(f"{s} ({traits.terms})" for s, traits in sorted(sets.items())) + "."


def description(out: Path, outcome: Outcome, found: Evaluation, config: TrainConfig, origin: Origin) -> dict[str, Any]:
    """The contents of ``model.json``."""
    content = (out / "weights.npz").read_bytes()
    e, final = outcome.examples, outcome.final
    sets = {name: outcome.sets[name] for name in np.unique(e.source).tolist()}
    heads = {name: len(head.bias) for name, head in train.head_layers(final).items()}
    if final.tail:
        heads["kind_logits"] = len(KINDS)
    return {
        "format": FORMAT,
        "name": origin.name,
        "version": origin.version,
        "architecture": "ResNet50 (He et al. 2016), " + (
            "conv5 trained here, " if final.tail else "to conv4, ") + "linear heads on pooled conv3 and conv4",
        "network": {"conv5": bool(final.tail), "heads": heads},
        "weights": {
            "file": "weights.npz", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content),
            "dtype": "float16 (vectors float32)",
        },
        "ranking": _file(out / FILE),
        "outlines": _file(out / trace.FILE),
        "classes": list(CLASSES),
        "clinical_inputs": list(CLINICAL),
        "clinical_columns": [c.facts() for c in clinical.of(e).columns] if final.breast else [],
        "crop": train.CROP.facts(),
        "region_score": final.regions[final.variant].facts(),
        "image_score": final.image.facts() if final.image else None,
        "breast_score": final.breast.facts() if final.breast else None,
        "calibration": "Two logistic regressions on the log odds of the network's heads (a lesion or not; malignant or "
                       "benign if it is one), their product the malignancy, fitted on what heads said of patients "
                       "that they had not seen (Platt 1999: monotone and of few parameters, since they are few).",
        "operating_points": found.points,
        "limits": list(LIMITS),
        "licence": licence(sets),
        "training": {"software": __version__, "command": origin.command, **dataclasses.asdict(config),
                     "sets": {name: traits.cite or name for name, traits in sets.items()}},
        "evaluation": [_row(f) for f in found.figures],
    }  # fmt: skip


def _file(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _row(figure: Figure) -> dict[str, Any]:
    """A figure for JSON: nan is null."""
    facts = dataclasses.asdict(figure) | {"reached": figure.reached}
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in facts.items()}


def _metrics(out: Path, found: Evaluation) -> None:
    groups = {"cross-validation": found.figures, "ablation": found.ablation, "subgroup": found.subgroups,
              "small CNN": found.small_cnn}  # fmt: skip
    facts = {name: [_row(f) for f in figures] for name, figures in groups.items()}
    (out / "metrics.json").write_text(
        json.dumps(facts | {"operating_points": found.points}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    with (out / "metrics.csv").open("w", encoding="utf-8", newline="") as stream:
        names = ["part", *(f.name for f in dataclasses.fields(evaluate.Figure)), "reached"]
        table = csv.DictWriter(stream, names)
        table.writeheader()
        for name, rows in facts.items():
            table.writerows({"part": name} | row for row in rows)


def predictions(path: Path, outcome: Outcome) -> None:
    """Out-of-fold predictions of every classified region and every scored image, as CSV."""
    e, said, odds = outcome.examples, outcome.said, evaluate.malignancy(outcome)
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("set", "image", "patient", "fold", "what", "region", "x0", "y0", "x1", "y1", "label",
                        "lesion", "malignancy", "tissue_estimate", "grade_estimate"))  # fmt: skip
        for film in range(len(e.source)):
            estimates = [
                terms[int(logits[film].argmax())] if np.isfinite(logits[film]).all() else ""
                for terms, logits in ((TISSUES, said.tissue), (GRADES, said.grade))
            ]
            image = said.image[film]
            table.writerow((e.source[film], e.name[film], e.patient[film], outcome.fold[film], "image", "", "", "", "",
                            "", e.film_label[film], "", f"{logistic(image):.6f}" if np.isfinite(image) else "",
                            *estimates))  # fmt: skip
        for row in np.flatnonzero(np.isfinite(odds)).tolist():
            film = int(e.film[row])
            label = CLASSES[e.label[row]] if e.label[row] >= 0 else ""
            table.writerow((e.source[film], e.name[film], e.patient[film], outcome.fold[film], e.kind[row],
                            e.rank[row] if e.rank[row] >= 0 else "", *(f"{v:.1f}" for v in e.box[row]), label,
                            e.lesion[row] if e.lesion[row] >= 0 else "", f"{logistic(odds[row]):.6f}", "", ""))  # fmt: skip
