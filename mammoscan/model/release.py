"""The description of a trained model: ``model.json`` beside its weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from mammoscan import __version__
from mammoscan.config import AnalysisConfig
from mammoscan.model.bundle import DESCRIPTION, FORMAT
from mammoscan.model.classify import CLASSES, CLINICAL

if TYPE_CHECKING:
    from pathlib import Path

    from mammoscan.model.train import TrainConfig

LIMITS = (
    "Trained on small public sets: scanned films (CBIS-DDSM masses, mini-MIAS) and resized digital views "
    "(CDD-CESM, RSNA subset). Performance on other archives is unknown until audited there.",
    "Calcifications without a mass are hardly represented in the training data.",
    "Not calibrated to a screening prevalence: the score is no probability of cancer for a patient.",
)
LICENCE = (
    "Non-commercial research only: trained on mini-MIAS and RSNA data, whose terms allow research only, "
    "and on CBIS-DDSM (CC BY 3.0) and CDD-CESM (CC BY 4.0)."
)


def describe(out: Path, metrics: dict[str, Any], config: TrainConfig) -> None:
    """Write ``model.json`` for the ``weights.npz`` in ``out``."""
    content = (out / "weights.npz").read_bytes()
    analysis = AnalysisConfig()
    facts = {
        "format": FORMAT,
        "name": "mammoscan-resnet50",
        "version": "0.1.0",
        "architecture": "ResNet50 (He et al. 2016), average pooling, clinical head, 3 classes",
        "weights": {
            "file": "weights.npz",
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "dtype": "float16",
        },
        "classes": list(CLASSES),
        "clinical_inputs": list(CLINICAL),
        "crop": {"side": analysis.crop_side, "context": analysis.crop_context},
        "calibration": {"method": "Platt scaling on the validation part", **metrics["calibration"]},
        "operating_points": metrics["operating_points"],
        "limits": list(LIMITS),
        "licence": LICENCE,
        "training": {"software": __version__, **dataclasses.asdict(config), "kept": metrics["kept"]},
        "evaluation": {"validation": metrics["validation"], "test": metrics["test"]},
    }
    (out / DESCRIPTION).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
