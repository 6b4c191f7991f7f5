"""Options that several commands share."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mammoscan.config import SWITCHABLE, AnalysisConfig, RunConfig
from mammoscan.report import kinds

if TYPE_CHECKING:
    from collections.abc import Callable

_DEFAULT = AnalysisConfig()


def analysis_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that change results; the command receives one ``analysis: AnalysisConfig``."""

    @click.option(
        "--include",
        multiple=True,
        type=click.Choice(SWITCHABLE),
        help="Analyse images that a rule skips by default; may be given several times.",
    )
    @click.option(
        "--exclude",
        multiple=True,
        type=click.Choice(SWITCHABLE),
        help=f"Skip images that are analysed by default ({', '.join(_DEFAULT.include)}); may be given several times.",
    )
    @click.option(
        "--operating-point",
        default=_DEFAULT.operating_point,
        show_default=True,
        help="Operating point of the model: above it a finding is shown.",
    )
    @click.option(
        "--threshold",
        type=click.FloatRange(0, 1),
        default=None,
        help="Malignancy score (0 to 1) to use instead of an operating point.",
    )
    @click.option(
        "--max-regions",
        type=click.IntRange(1, 200),
        default=_DEFAULT.max_regions,
        show_default=True,
        help="Candidate regions classified per image.",
    )
    @click.option(
        "--max-findings",
        type=click.IntRange(0, 50),
        default=_DEFAULT.max_findings,
        show_default=True,
        help="Findings reported per image.",
    )
    @click.option(
        "--max-pixels",
        type=click.IntRange(1),
        default=_DEFAULT.max_pixels,
        show_default=True,
        help="Refuse images with more pixels than this.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        include: tuple[str, ...],
        exclude: tuple[str, ...],
        operating_point: str,
        threshold: float | None,
        max_regions: int,
        max_findings: int,
        max_pixels: int,
        **kwargs: Any,
    ) -> Any:
        included = tuple(sorted((set(_DEFAULT.include) | set(include)) - set(exclude)))
        analysis = AnalysisConfig(
            include=included,
            max_regions=max_regions,
            max_findings=max_findings,
            max_pixels=max_pixels,
            operating_point=operating_point,
            threshold=threshold,
        )
        return command(*args, analysis=analysis, **kwargs)

    return wrapped


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of a run; the command receives ``configure(archive, out) -> RunConfig``."""

    @click.option(
        "--model",
        type=click.Path(path_type=Path),
        default=None,
        help="Folder of a trained model; the bundled one by default.",
    )
    @click.option(
        "--write",
        multiple=True,
        type=click.Choice([*kinds.NAMES, "all", "none"]),
        help="Kind of DICOM object to write; may be given several times. "
        f"[default: {', '.join(kinds.DEFAULT)}; see README]",
    )
    @click.option(
        "--density-csv",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=None,
        help="Breast densities read by people (columns: see README).",
    )
    @click.option("--workers", type=click.IntRange(0), default=0, help="Worker processes; 0: one a core.")
    @click.option(
        "--batch-size",
        type=click.IntRange(0),
        default=0,
        help="Regions in one batch of the network; 0: by the device's memory.",
    )
    @click.option(
        "--settle-seconds",
        type=click.FloatRange(0),
        default=2.0,
        show_default=True,
        help="Files younger than this count as still being written.",
    )
    @click.option(
        "--follow-links/--no-follow-links",
        default=True,
        show_default=True,
        help="Follow symbolic links below the archive.",
    )
    @click.option("--retry-failed", is_flag=True, help="Try again the images that failed in an earlier run.")
    @click.option("--quiet", is_flag=True, help="Say nothing unless something is wrong (for cron).")
    @click.option("--json", "json_summary", is_flag=True, help="Print the summary as one JSON object on stdout.")
    @click.option(
        "--log-file",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        help="Append a log (paths and coded reasons, no header values).",
    )
    @analysis_options
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        analysis: AnalysisConfig,
        model: Path | None,
        write: tuple[str, ...],
        density_csv: Path | None,
        workers: int,
        batch_size: int,
        settle_seconds: float,
        follow_links: bool,
        retry_failed: bool,
        quiet: bool,
        json_summary: bool,
        log_file: Path | None,
        **kwargs: Any,
    ) -> Any:
        def configure(archive: Path, out: Path) -> RunConfig:
            return RunConfig(
                archive=archive,
                out=out,
                analysis=analysis,
                write=_kinds(write),
                model=model,
                workers=workers,
                batch_size=batch_size,
                settle_seconds=settle_seconds,
                density_csv=density_csv,
                follow_links=follow_links,
                quiet=quiet,
                json_summary=json_summary,
                log_file=log_file,
                retry_failed=retry_failed,
            )

        return command(*args, configure=configure, **kwargs)

    return wrapped


def _kinds(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds to write, in their own order."""
    if "none" in chosen and len(set(chosen)) > 1:
        raise click.BadParameter("none cannot be combined with a kind", param_hint="--write")
    if not chosen:
        return kinds.DEFAULT
    return kinds.NAMES if "all" in chosen else tuple(name for name in kinds.NAMES if name in chosen)
