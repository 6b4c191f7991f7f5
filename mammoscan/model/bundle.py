"""A trained model on disk: ``model.json`` and its weight file, verified before use. No TensorFlow."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.core.clinical import Column
from mammoscan.core.domain import Cost, ModelIdentity, OperatingPoint, PointCost
from mammoscan.core.errors import ModelError, UsageError
from mammoscan.image.crops import CropGeometry
from mammoscan.model import rule
from mammoscan.model.network import unfit
from mammoscan.model.outputs import BREAST_INPUTS, IMAGE_INPUTS, REGION_INPUTS
from mammoscan.model.scores import RegionScore, Score
from mammoscan.model.terms import CLASSES, CLINICAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FORMAT = 5
DESCRIPTION = "model.json"
NEEDED_HEADS = ("lesion_logits", "pathology_logits")
HEADS = (*NEEDED_HEADS, "tissue_logits", "grade_logits", "kind_logits")
_REMEDY = "install mammoscan again, or train a model with `mammoscan train`"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What ``run`` needs of a model.

    crop: how its crops are cut. clinical: the inputs of CLINICAL that the network takes. conv5: whether it goes on to conv5 or ends
    at conv4. heads: further outputs with their sizes. points: the operating points by name, with what each
    costs as far as the description says. image, breast: how those scores follow from regions and images;
    None: the highest region, the highest image. ranking: the file of the trees that rank candidate regions
    (``segment.ranking``); outlines: that of the network that draws their outlines (``trace``). precisions: those
    beside float32 in which the network's scores were measured to hold, with the figures. columns: of clinical data of
    the user's own that the breast's score takes.
    """

    identity: ModelIdentity
    weights_path: Path
    weights_sha256: str
    crop: CropGeometry
    clinical: tuple[str, ...]
    conv5: bool
    heads: Mapping[str, int]
    points: Mapping[str, OperatingPoint]
    region: RegionScore
    image: Score | None
    breast: Score | None
    ranking: Path
    outlines: Path
    precisions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()

    def point(self, wanted: str | float) -> OperatingPoint:
        """The operating point of a name, or that of a threshold (0 to 1) on all three scores alike.

        Raises
        ------
        UsageError
            When the model has no operating point of that name.
        """
        if not isinstance(wanted, str):
            return OperatingPoint(f"threshold {wanted:g}", wanted, wanted, wanted)
        if wanted not in self.points:
            raise UsageError(
                f"the model has no operating point {wanted!r}", remedy=f"choose one of {', '.join(sorted(self.points))}"
            )
        return self.points[wanted]

    def operating_points(self) -> dict[str, Mapping[str, float]]:
        """Thresholds by what they are on (a finding's, an image's, a breast's malignancy score) and name."""
        return {
            "finding": {name: point.finding for name, point in self.points.items()},
            "image": {name: point.image for name, point in self.points.items()},
            "breast": {name: point.breast for name, point in self.points.items()},
        }

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
        if hashlib.sha256(content).hexdigest() != self.weights_sha256:
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
        When the description is missing, of another format, or asks for other inputs, classes or crops.
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
        return _bundle(place, path, facts)
    except KeyError as error:
        raise ModelError(f"the description lacks {error}", path=path, remedy=_REMEDY) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the description is damaged: {error}", path=path, remedy=_REMEDY) from error


def _bundle(place: Path, path: Path, facts: dict[str, Any]) -> Bundle:
    if tuple(facts["classes"]) != CLASSES or not set(facts["clinical_inputs"]) <= set(CLINICAL):
        raise ModelError("the model has other classes or inputs", path=path, remedy=_REMEDY)
    network = facts["network"]
    region = RegionScore.of(facts["region_score"])
    image, breast = (None if facts[n] is None else Score.of(facts[n]) for n in ("image_score", "breast_score"))
    columns = tuple(Column.of(column) for column in facts.get("clinical_columns", ()))
    told = tuple(name for column in columns for name in column.inputs)
    for score, known in ((region, REGION_INPUTS), (image, IMAGE_INPUTS), (breast, (*BREAST_INPUTS, *told))):
        if score is not None and not set(score.inputs) <= set(known):
            raise ModelError("a score has inputs that this version does not know", path=path, remedy=_REMEDY)
    if not set(told) <= set(breast.inputs if breast else ()):
        raise ModelError("clinical columns that no score takes", path=path, remedy=_REMEDY)
    if not set(NEEDED_HEADS) <= set(network["heads"]) <= set(HEADS):
        raise ModelError("the network has other heads than this version knows", path=path, remedy=_REMEDY)
    crop = CropGeometry.of(facts["crop"])
    if problem := unfit(crop):
        raise ModelError(f"the network cannot see crops of {problem}", path=path, remedy=_REMEDY)
    return Bundle(
        identity=ModelIdentity(
            name=facts["name"],
            version=facts["version"],
            # Of the description: it names the other files' hashes, and holds all that is fitted besides.
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            limits=tuple(facts["limits"]),
            licence=facts["licence"],
            scoring=rule.sentences(region, image, breast),
        ),
        weights_path=place / facts["weights"]["file"],
        weights_sha256=facts["weights"]["sha256"],
        crop=crop,
        clinical=tuple(facts["clinical_inputs"]),
        conv5=bool(network["conv5"]),
        heads={str(name): int(size) for name, size in network["heads"].items()},
        points={name: _point(name, p) for name, p in facts["operating_points"].items()},
        region=region,
        image=image,
        breast=breast,
        ranking=_beside(place, facts["ranking"], "the ranking is"),
        outlines=_beside(place, facts["outlines"], "the outlines are"),
        precisions={str(name): dict(figures) for name, figures in facts.get("precisions", {}).items()},
        columns=columns,
    )


def _point(name: str, facts: Mapping[str, Any]) -> OperatingPoint:
    image, breast, finding = (float(facts[key]) for key in ("threshold", "breast", "region"))
    return OperatingPoint(name, image, breast, finding, _cost(facts.get("cost", {})))


def _cost(facts: Mapping[str, Any]) -> PointCost:
    """What an operating point costs; models of before this was stored say nothing, which stays unknown."""

    def level(name: str) -> Cost:
        stated = facts.get(name, {})
        found, passed = (None if stated.get(n) is None else float(stated[n]) for n in ("sensitivity", "specificity"))
        return Cost(found, passed, int(stated.get("cancers", 0)), int(stated.get("healthy", 0)))

    return PointCost(level("image"), level("breast"), str(facts.get("counted_on", "")))


def _beside(place: Path, facts: Mapping[str, str], what: str) -> Path:
    """A file of the model's own beside its weights, checked against its hash."""
    path = place / facts["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", path=path, remedy=_REMEDY) from error
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise ModelError(f"{what} not what model.json names", path=path, remedy=_REMEDY)
    return path
