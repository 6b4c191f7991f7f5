"""The frozen configuration of an analysis, and its digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from mammoscan.core import rules

FULL, HALF = "full", "half"  # resolution
SWITCHABLE = rules.SWITCHES  # what --include and --exclude take


# The geometry of crops was here before it went into the model's description. It stays in the digest, so that results
# of before stand under their keys and UIDs; a model with another geometry has another hash, which decides keys as well.
_OF_BEFORE = {"crop_side": 160, "crop_context": 1.6}


@dataclass(frozen=True, slots=True)
class AnalysisConfig:
    """What changes a result. Its digest decides, with the model's hash, what must be redone."""

    include: tuple[str, ...] = rules.ANALYSED  # sorted: the digest counts the order
    max_regions: int = 20  # candidate regions classified per image
    # Findings reported per image. With 5, PixelMed's validator gave no verdict on the SRs of four-view studies
    # within 1 GB; what the limit costs in sensitivity was not measured.
    max_findings: int = 3
    max_pixels: int = 100_000_000
    # HALF: of very fine images half of it. Regions and scores move by it as by a shift of the picture by a pixel.
    resolution: str = FULL
    # The other, `sensitivity-0.90`, flags nearly every healthy film with the model of today.
    operating_point: str = "specificity-0.90"
    threshold: float | None = None  # overrides the operating point

    @property
    def point(self) -> str | float:
        """Which operating point of the model was asked for: its name, or a threshold in its place."""
        return self.operating_point if self.threshold is None else self.threshold

    def digest(self) -> str:
        """SHA-256 hex over the sorted JSON of all fields; a resolution counts where it is not the whole, as ever before."""
        fields = dataclasses.asdict(self) | _OF_BEFORE
        if self.resolution == FULL:
            del fields["resolution"]
        text = json.dumps(fields, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
