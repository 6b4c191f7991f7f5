"""From analysed images to predictions, through one queue of crops before the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mammoscan.archive import density
from mammoscan.core import uids
from mammoscan.core.domain import Density, DensitySource, Finding, Scored, Scores
from mammoscan.image import crops
from mammoscan.model import findings
from mammoscan.model.classify import Classifier, breast_outputs, image_scores, looks_at_breasts, region_outputs
from mammoscan.model.explain import grad_cam
from mammoscan.model.precision import Precision
from mammoscan.model.terms import clinical_inputs
from mammoscan.run.batches import BatchQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from mammoscan.core.domain import Analysed, DensityReading
    from mammoscan.model.batchsize import Outputs
    from mammoscan.model.bundle import Bundle
    from mammoscan.model.classify import Device
    from mammoscan.run.config import RunConfig
    from mammoscan.run.plan import PlannedImage


class Scorer:
    """Classifies analysed images, many at once; what is said of one hangs on no other.

    An image's crops are those of its regions and the tiles of its whole breast, which share most of the network: they
    go through it in the same batches. TensorFlow is loaded with the first image, while the workers are busy with those
    after it. threshold: on the malignancy score of a finding. device: makes what computes; the bundle's network.
    """

    def __init__(
        self, bundle: Bundle, config: RunConfig, threshold: float, *, precision: Precision = Precision.FLOAT32,
        device: Callable[[], Device] | None = None,
    ) -> None:  # fmt: skip
        self._bundle = bundle
        self._analysis = config.analysis
        self._digest = config.analysis.digest()
        self._threshold = threshold
        self._tiles = looks_at_breasts(bundle)
        self._make = device or (lambda: Classifier(bundle, batch_size=config.batch_size, precision=precision))
        self._device: Device | None = None
        self._queue = BatchQueue(self._open, self._result)

    @property
    def pending(self) -> int:
        """Images that were added and not yet given back."""
        return self._queue.pending

    @property
    def seconds(self) -> float:
        """In which the network was loaded or worked."""
        return self._queue.seconds

    def add(self, image: PlannedImage, analysed: Analysed) -> None:
        """Queue an image; waits only while many crops do.

        Raises
        ------
        BaseException
            Here, in ``collect`` and in ``finish``: what the network's thread raised.
        """
        facts = clinical_inputs(image.header, _density(image, Density.UNKNOWN))
        shown = [analysed.crops, analysed.tiles] if self._tiles else [analysed.crops]
        clinical = np.zeros((sum(map(len, shown)), len(facts)), np.float32)
        clinical[: len(analysed.crops)] = facts
        self._queue.put((image, analysed), np.concatenate(shown), clinical)

    def collect(self) -> list[tuple[PlannedImage, Scored]]:
        """Images that are finished by now, in the order in which they came; never waits."""
        return self._queue.collect()

    def finish(self) -> list[tuple[PlannedImage, Scored]]:
        """All that is pending, after the last batch, which may not be full. More may be added afterwards."""
        return self._queue.finish()

    def close(self) -> None:
        """Forget the network, and what is pending."""
        self._queue.close()

    def _open(self) -> Device:
        self._device = self._make()
        return self._device

    def _result(self, piece: tuple[PlannedImage, Analysed], said: Outputs) -> tuple[PlannedImage, Scored]:
        image, analysed = piece
        regions = len(analysed.regions)
        outputs = region_outputs(
            self._bundle,
            {name: rows[:regions] for name, rows in said.items()},
            analysed.features,
            np.arange(regions, dtype=np.float64),  # most salient first
        )
        breast = breast_outputs({name: rows[regions:] for name, rows in said.items()} if self._tiles else {})
        # The model's estimate, else that from the share of dense pixels.
        estimate = analysed.image_features.density if breast.density is Density.UNKNOWN else breast.density
        chosen = findings.select(analysed.regions, outputs.malignancy.tolist(), most=self._analysis.max_findings)
        # The device is there by now: without crops nothing is chosen.
        kinds = (
            self._device.kinds({n: rows[list(chosen)] for n, rows in said.items()}) if self._device and chosen else ()
        )
        heats = grad_cam(outputs.evidence[list(chosen)]) if chosen else ()
        found = []
        for number, (index, kind, heat) in enumerate(zip(chosen, kinds, heats, strict=True), 1):
            region = analysed.regions[index]
            normal, benign, malignant = (float(p) for p in outputs.probabilities[index])
            malignancy = float(outputs.malignancy[index])
            tracking_id, tracking_uid = uids.tracking(
                image.header, region.kind, number, self._bundle.identity.sha256, self._digest
            )
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
                    lesion_kind=str(kind),
                )
            )
        return image, Scored(
            header=image.header,
            geometry=analysed.geometry,
            image_features=analysed.image_features,
            density=_density(image, estimate),
            scores=image_scores(outputs, self._bundle.image),
            findings=tuple(found),
            candidates=len(analysed.regions),
            flags=analysed.flags,
            seconds=analysed.seconds,
            tissue=breast.tissue,
            nipple=analysed.nipple,
        )


def _density(image: PlannedImage, estimate: Density) -> DensityReading:
    """What was read of the density, else the estimate; only the former is an input of the network."""
    if image.density is not None and image.density.source is not DensitySource.NONE:
        return image.density
    return density.best_density(image.header, (), None, estimate)
