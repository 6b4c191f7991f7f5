"""An archive instead of results: analyse it first."""

from __future__ import annotations

from pathlib import Path

from mammoscan.audit.results import is_run_folder


def results_of(path: Path, out: Path, *, quiet: bool) -> Path:
    """The results to audit: ``path`` itself, or for an archive a run of it into ``out/run``.

    The run continues where an earlier one stopped, so that auditing twice analyses once.
    """
    if path.is_file() or is_run_folder(path):
        return path
    # Imported here: auditing existing results needs no network and no decoders.
    from mammoscan import pipeline
    from mammoscan.config import RunConfig
    from mammoscan.console import Console

    pipeline.run(RunConfig(archive=path, out=out / "run", quiet=quiet), Console(quiet=quiet))
    return out / "run"
