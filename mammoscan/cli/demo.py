"""``mammoscan demo OUT``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mammoscan.cli.help import GroupedCommand
from mammoscan.cli.options import run_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from mammoscan.run.config import RunConfig


# The files are whole when they are read: this process wrote them.
@click.command("demo", cls=GroupedCommand, context_settings={"default_map": {"settle_seconds": 0.0}})
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", type=int, default=20260101, show_default=True, help="Seed of the synthetic images.")
@click.option("--write-only", is_flag=True, help="Write the archive and its labels, do not run.")
@run_options
def demo_command(out: Path, seed: int, write_only: bool, configure: Callable[[Path, Path], RunConfig]) -> None:
    """Write synthetic example studies to OUT/archive, their truth to OUT/labels.csv, results to OUT/reports.

    The archive holds files on purpose that must be skipped or fail, so the run ends with status 1
    when everything else went well; this command reports that as success.
    """
    from mammoscan.cli.run import execute
    from mammoscan.core.errors import ExitCode
    from mammoscan.synthetic.archive import write_demo

    paths = write_demo(out, seed=seed)
    click.echo(f"wrote {len(paths)} files of synthetic studies below {out}", err=True)
    if write_only:
        return
    status = execute(configure(out / "archive", out / "reports"))
    raise SystemExit(0 if status == ExitCode.SOME_FAILED else status)
