"""The frozen configuration of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mammoscan.core import kinds, tableforms
from mammoscan.core.config import AnalysisConfig
from mammoscan.model.precision import AUTO

if TYPE_CHECKING:
    from pathlib import Path, PurePath

    from mammoscan.send.destination import SendConfig


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Other machines to work on. paths: folders of this machine, and where the workers see the same ones.

    ca, certificate, key: files for TLS, of the scheduler's own authority; None: not encrypted.
    """

    address: str
    paths: tuple[tuple[PurePath, PurePath], ...] = ()
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class RunConfig:
    """A run: where from, where to, how; only ``analysis``, ``precision`` and the tables change results."""

    archive: Path
    out: Path
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    write: tuple[str, ...] = kinds.DEFAULT  # kinds of DICOM objects, by name
    model: Path | None = None  # None: the bundled model
    workers: int = 0  # 0: as many as cores
    batch_size: int = 0  # 0: by device memory, or what is measured to be faster
    precision: str = AUTO  # one of ``model.precision.CHOICES``
    settle_seconds: float = 2.0  # younger files count as still being written
    density_csv: Path | None = None
    clinical_csv: Path | None = None  # of the columns that the model takes
    follow_links: bool = True
    quiet: bool = False
    json_summary: bool = False
    tables: str = tableforms.PLAIN.name  # one of ``tableforms.FORMS``
    log_file: Path | None = None
    retry_failed: bool = False
    compare_content: bool = False  # look at the bytes of every file, also where size and time are as they were
    send: SendConfig | None = None  # where results go when the run is done
    cluster: ClusterConfig | None = None  # where the work is done; None: in processes of this machine
    deidentify: Path | None = None  # file with the key of the pseudonyms; None: results carry identities
    review: bool = True  # write the review page

    @property
    def written(self) -> tuple[str, ...]:
        """What is written of each study: kinds of DICOM objects by name, and the review page."""
        return (*self.write, kinds.REVIEW) if self.review else self.write
