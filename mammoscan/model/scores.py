"""Small linear models as plain numbers: they travel in ``model.json`` and the weight file. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mammoscan.core import clinical
from mammoscan.model import outputs
from mammoscan.model.terms import logistic

if TYPE_CHECKING:
    from mammoscan.core.clinical import Values

Floats = NDArray[np.float64]
HELD = 3.0  # standard deviations at which an input of a score is held


@dataclass(frozen=True, slots=True)
class Linear:
    """kernel: float64 (inputs, classes). bias: (classes,). Standardisation is folded in."""

    kernel: Floats
    bias: Floats

    def logits(self, x: NDArray[np.floating]) -> Floats:
        """Of rows (n, inputs)."""
        return np.asarray(x, np.float64) @ self.kernel + self.bias


@dataclass(frozen=True, slots=True)
class Score:
    """A logistic score of named inputs: sigmoid(intercept + sum of weight x held, standardised input).

    A missing input (nan) counts as its mean.
    """

    inputs: tuple[str, ...]
    mean: Floats
    scale: Floats
    weight: Floats
    intercept: float

    def log_odds(self, x: NDArray[np.floating]) -> Floats:
        """Log odds (n,) of inputs (n, len(inputs))."""
        z = (np.asarray(x, np.float64) - self.mean) / self.scale
        held = np.where(np.isfinite(z), np.clip(z, -HELD, HELD), 0.0)
        # Not a matrix product: BLAS takes rows in blocks, so that a row's last bits hang on how many stand with it.
        # Row by row in memory, since the order of a sum is that of its terms there.
        return np.asarray(np.ascontiguousarray(held * self.weight).sum(axis=1) + self.intercept)

    def __call__(self, x: NDArray[np.floating]) -> Floats:
        """Probability (n,)."""
        return logistic(self.log_odds(x))

    def told(self, values: Values) -> Score:
        """The score of its other inputs where a patient's clinical data are these; the same where it takes none."""
        names = [name for name in self.inputs if name.startswith(clinical.PREFIX)]
        at = [self.inputs.index(name) for name in names]
        rest = [i for i in range(len(self.inputs)) if i not in at]
        alone = Score(tuple(names), self.mean[at], self.scale[at], self.weight[at], self.intercept)
        level = float(alone.log_odds(clinical.inputs(names, values)[None])[0])
        return Score(
            tuple(self.inputs[i] for i in rest), self.mean[rest], self.scale[rest], self.weight[rest], level
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """For ``model.json``."""
        return {
            "inputs": list(self.inputs), "mean": self.mean.tolist(), "scale": self.scale.tolist(),
            "weight": self.weight.tolist(), "intercept": self.intercept,
        }  # fmt: skip

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Score:
        """Read back. Raises KeyError, TypeError or ValueError for a wrong description."""
        size = len(facts["inputs"])
        mean, scale, weight = (np.asarray(facts[name], np.float64) for name in ("mean", "scale", "weight"))
        if any(a.shape != (size,) for a in (mean, scale, weight)):
            raise ValueError("a score with other inputs than weights")
        return cls(tuple(facts["inputs"]), mean, scale, weight, float(facts["intercept"]))


@dataclass(frozen=True, slots=True)
class RegionScore:
    """A region's class from two scores of the same inputs: that it is a lesion, and that a lesion is malignant.

    Their product is the malignancy. Two, because the second can be learnt only from lesions of sets that
    have benign and malignant ones, and because one weighted sum cannot say "surely a lesion, surely benign".
    """

    lesion: Score
    pathology: Score

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what both are functions of."""
        return self.lesion.inputs

    def logits(self, x: NDArray[np.floating]) -> Floats:
        """Class logits (n, 3) of inputs (n, len(inputs)); their softmax is calibrated."""
        return outputs.class_logits(self.lesion.log_odds(x), self.pathology.log_odds(x))

    def facts(self) -> dict[str, Any]:
        """For ``model.json``."""
        return {"lesion": self.lesion.facts(), "pathology": self.pathology.facts()}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> RegionScore:
        """Read back. Raises KeyError, TypeError or ValueError for a wrong description."""
        lesion, pathology = Score.of(facts["lesion"]), Score.of(facts["pathology"])
        if lesion.inputs != pathology.inputs:
            raise ValueError("a region's two scores with different inputs")
        return cls(lesion, pathology)
