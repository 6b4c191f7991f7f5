"""A trained model on disk: ``model.json`` and its weight file, verified before use. No TensorFlow."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.domain import ModelIdentity
from mammoscan.errors import ModelError
from mammoscan.model.terms import CLASSES, CLINICAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FORMAT = 1
DESCRIPTION = "model.json"
_REMEDY = "install mammoscan again, or train a model with `mammoscan train`"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What ``run`` needs of a model. thresholds: operating points on the malignancy score."""

    identity: ModelIdentity
    weights_path: Path
    side: int
    context: float
    thresholds: Mapping[str, float]
    slope: float
    intercept: float

    def calibrated(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Malignancy score (n,) of class probabilities (n, 3): Platt scaling of the log odds.

        Platt (1999): monotone, with two parameters, so that it can be fitted on few patients.
        """
        p = np.clip(probabilities[:, CLASSES.index("malignant")], 1e-7, 1 - 1e-7)
        return np.asarray(1.0 / (1.0 + np.exp(-(self.slope * np.log(p / (1 - p)) + self.intercept))))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights, checked against their hash.

        Raises
        ------
        ModelError
            When the file is missing, truncated or not the one that the description names.
        """
        try:
            content = self.weights_path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", path=self.weights_path, remedy=_REMEDY) from error
        if hashlib.sha256(content).hexdigest() != self.identity.sha256:
            raise ModelError(
                "the weights are not those that model.json names (wrong or truncated file)",
                path=self.weights_path,
                remedy=_REMEDY,
            )
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (ValueError, zipfile.BadZipFile) as error:
            raise ModelError(f"not a weight file: {error}", path=self.weights_path, remedy=_REMEDY) from error


def load(folder: Path | None) -> Bundle:
    """Read and check a bundle's description; ``None`` is the bundled model.

    Raises
    ------
    ModelError
        When the description is missing, of another format, or asks for other inputs or classes.
    """
    place = Path(str(resources.files("mammoscan.models"))) if folder is None else folder
    path = place / DESCRIPTION
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"no model here: {error.strerror}", path=path, remedy=_REMEDY) from error
    except ValueError as error:
        raise ModelError(f"not a model description: {error}", path=path, remedy=_REMEDY) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ModelError(f"not a model of format {FORMAT}", path=path, remedy=_REMEDY)
    try:
        if tuple(facts["classes"]) != CLASSES or tuple(facts["clinical_inputs"]) != CLINICAL:
            raise ModelError("the model has other classes or inputs", path=path, remedy=_REMEDY)
        return Bundle(
            identity=ModelIdentity(
                name=facts["name"],
                version=facts["version"],
                sha256=facts["weights"]["sha256"],
                limits=tuple(facts["limits"]),
                licence=facts["licence"],
            ),
            weights_path=place / facts["weights"]["file"],
            side=int(facts["crop"]["side"]),
            context=float(facts["crop"]["context"]),
            thresholds={name: float(p["threshold"]) for name, p in facts["operating_points"].items()},
            slope=float(facts["calibration"]["slope"]),
            intercept=float(facts["calibration"]["intercept"]),
        )
    except (KeyError, TypeError) as error:
        raise ModelError(f"the description lacks {error}", path=path, remedy=_REMEDY) from error
