"""From analysed images to predictions: batches that mix images and studies go through the network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from mammoscan.archive import density
from mammoscan.core import uids
from mammoscan.core.domain import Analysed, Density, DensityReading, DensitySource, Finding, Prediction, Scores
from mammoscan.image import crops
from mammoscan.model import findings
from mammoscan.model.classify import Classifier, image_scores
from mammoscan.model.explain import grad_cam
from mammoscan.model.terms import clinical_inputs

if TYPE_CHECKING:
    from mammoscan.model.bundle import Bundle
    from mammoscan.model.classify import BreastOutputs, RegionOutputs
    from mammoscan.run.config import RunConfig
    from mammoscan.run.plan import PlannedImage


# What is collected before the network is run, so that its batches mix images and studies. Images count too: those in
# which nothing was found have no regions, and a whole archive of them would wait in memory.
REGIONS_AT_ONCE = 64
IMAGES_AT_ONCE = 32


class Scorer:
    """Collects analysed images and classifies their regions together.

    TensorFlow is loaded with the first image, while the workers are busy with those after it.
    threshold: on the malignancy score of a finding.
    """

    def __init__(self, bundle: Bundle, config: RunConfig, threshold: float) -> None:
        self._bundle = bundle
        self._config = config
        self._digest = config.analysis.digest()
        self._threshold = threshold
        self._waiting: list[tuple[PlannedImage, Analysed]] = []
        self._classifier: Classifier | None = None
        self.pending_regions = 0
        self.seconds = 0.0

    def close(self) -> None:
        """Forget the network."""
        self._classifier = None

    def add(self, image: PlannedImage, analysed: Analysed) -> None:
        """Queue an image for the next batch."""
        if self._classifier is None:
            began = time.perf_counter()
            self._classifier = Classifier(self._bundle, batch_size=self._config.batch_size)
            self.seconds += time.perf_counter() - began
        self._waiting.append((image, analysed))
        self.pending_regions += len(analysed.regions)

    @property
    def full(self) -> bool:
        """Whether so much is waiting that it should be classified now."""
        return self.pending_regions >= REGIONS_AT_ONCE or len(self._waiting) >= IMAGES_AT_ONCE

    def flush(self) -> list[tuple[PlannedImage, Prediction]]:
        """Classify what is queued."""
        began = time.perf_counter()
        waiting, self._waiting, self.pending_regions = self._waiting, [], 0
        if not waiting:
            return []
        assert self._classifier is not None
        breasts = self._classifier.breasts(np.stack([analysed.tiles for _, analysed in waiting]))
        densities = [
            _density(image, analysed, breast) for (image, analysed), breast in zip(waiting, breasts, strict=True)
        ]
        counts = [len(analysed.regions) for _, analysed in waiting]
        outputs = self._classifier.predict(
            np.concatenate([analysed.crops for _, analysed in waiting]),
            np.concatenate(
                [
                    np.repeat(clinical_inputs(image.header, reading)[None], count, axis=0)
                    for (image, _), reading, count in zip(waiting, densities, counts, strict=True)
                ]
            ),
            np.concatenate([analysed.features for _, analysed in waiting]),
            np.concatenate([np.arange(count, dtype=np.float64) for count in counts]),  # most salient first
        )
        ends = np.cumsum(counts)
        results = []
        for (image, analysed), reading, breast, end, count in zip(
            waiting, densities, breasts, ends, counts, strict=True
        ):
            part = outputs.take(slice(end - count, end))
            results.append((image, self._prediction(image, analysed, reading, breast, part)))
        self.seconds += time.perf_counter() - began
        return results

    def _prediction(
        self,
        image: PlannedImage,
        analysed: Analysed,
        reading: DensityReading,
        breast: BreastOutputs,
        outputs: RegionOutputs,
    ) -> Prediction:
        assert self._classifier is not None
        chosen = findings.select(analysed.regions, outputs.malignancy.tolist(), most=self._config.analysis.max_findings)
        heats = grad_cam(self._classifier, outputs.take(np.array(chosen, dtype=np.intp))) if chosen else ()
        found = []
        for number, (index, heat) in enumerate(zip(chosen, heats, strict=True), 1):
            region = analysed.regions[index]
            normal, benign, malignant = (float(p) for p in outputs.probabilities[index])
            malignancy = float(outputs.malignancy[index])
            tracking_id, tracking_uid = uids.tracking(image.header, number, self._bundle.identity.sha256, self._digest)
            found.append(
                Finding(
                    number=number,
                    tracking_id=tracking_id,
                    tracking_uid=tracking_uid,
                    region=region,
                    scores=Scores(normal, benign, malignant, malignancy),
                    above_threshold=malignancy >= self._threshold,
                    features=analysed.features[index],
                    heat=heat if not analysed.geometry.flipped else np.ascontiguousarray(heat[:, ::-1]),
                    heat_box=crops.crop_box(analysed.geometry, region.box, self._bundle.crop.context),
                    lesion_kind=str(outputs.kinds[index]),
                )
            )
        return Prediction(
            header=image.header,
            geometry=analysed.geometry,
            image_features=analysed.image_features,
            density=reading,
            scores=image_scores(outputs, self._bundle.image),
            findings=tuple(found),
            candidates=len(analysed.regions),
            preview=analysed.preview,
            flags=analysed.flags,
            seconds=analysed.seconds,
            tissue=breast.tissue,
        )


def _density(image: PlannedImage, analysed: Analysed, breast: BreastOutputs) -> DensityReading:
    """What was read of the density, else the model's estimate, else that from the share of dense pixels."""
    if image.density is not None and image.density.source is not DensitySource.NONE:
        return image.density
    estimate = analysed.image_features.density if breast.density is Density.UNKNOWN else breast.density
    return density.best_density(image.header, (), None, estimate)
