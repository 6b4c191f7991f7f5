"""``run.json``: what made the results of a folder, as bytes."""

from __future__ import annotations

import dataclasses
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from mammoscan import NOTICE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mammoscan.core.domain import ReportContext, RunSummary
    from mammoscan.run.config import RunConfig

PACKAGES = (
    "mammoscan", "click", "highdicom", "imagecodecs", "joblib", "numpy", "opencv-python-headless", "pydicom", "pyjpegls",
    "pylibjpeg", "python-gdcm", "reportlab", "rich", "scikit-image", "scipy", "tensorflow",
)  # fmt: skip


def render(
    config: RunConfig,
    context: ReportContext,
    summary: RunSummary,
    operating_points: Mapping[str, Mapping[str, float]],
    columns: Sequence[str] = (),
) -> bytes:
    """What made the results: versions, configuration, model, counts, seconds by stage.

    operating_points: those on a finding's score, an image's and a breast's. columns: of clinical data that the model takes.
    """
    content: dict[str, Any] = {
        "notice": NOTICE,
        # With pseudonyms neither the clock, which would tell by how much dates were moved, nor a path that may name people.
        "created": "" if config.deidentify else "".join(context.created),
        "deidentified": config.deidentify is not None,
        "versions": {"python": platform.python_version(), **_versions()},
        "configuration": dataclasses.asdict(config.analysis),
        "config_digest": context.config_digest,
        "model": dataclasses.asdict(context.model),
        "precision": context.precision,
        "clinical_columns": list(columns),
        "archive": "" if config.deidentify else str(config.archive.resolve()),
        "threshold": context.threshold,
        "breast_threshold": context.breast_threshold,
        "finding_threshold": context.finding_threshold,
        "threshold_name": context.threshold_name,
        "operating_points": {what: dict(points) for what, points in operating_points.items()},
        "counts": {
            name: getattr(summary, name)
            for name in (
                "files",
                "analysed",
                "unchanged",
                "skipped",
                "failed",
                "gone",
                "waiting",
                "withdrawn",
                "studies",
                "findings",
            )
        },
        "seconds": round(summary.seconds, 3),
        "stage_seconds": {name: round(value, 3) for name, value in summary.stage_seconds},
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _versions() -> Mapping[str, str]:
    out = {}
    for name in PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out
