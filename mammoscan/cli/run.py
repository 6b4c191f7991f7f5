"""``mammoscan run ARCHIVE --out FOLDER``."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from mammoscan.cli.options import run_options, send_options
from mammoscan.console import Console, set_up_logging
from mammoscan.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from mammoscan.config import RunConfig
    from mammoscan.send.destination import SendConfig


@click.command("run")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for results and state.")
@click.option(
    "--send-to",
    "destinations",
    multiple=True,
    metavar="AE@HOST:PORT|URL",
    help="Send the DICOM results there when they are written, as `mammoscan send` does; may be given several times.",
)
@run_options
@send_options
def run_command(
    archive: Path,
    out: Path,
    destinations: tuple[str, ...],
    configure: Callable[[Path, Path], RunConfig],
    sending: Callable[[tuple[str, ...]], SendConfig],
) -> None:
    """Analyse every mammogram below ARCHIVE; write reports and tables to --out.

    Run the same command again to continue or to bring the results up to date.

    Exit status: 0 all analysed, 1 some files failed or results are not sent, 2 usage, 3 nothing could be analysed,
    4 another run holds the output folder, 130 interrupted.
    """
    config = configure(archive, out)
    if destinations:
        config = replace(config, send=sending(destinations))
    raise SystemExit(execute(config))


def execute(config: RunConfig) -> int:
    """Run with a console; return the exit status."""
    from mammoscan import pipeline

    console = Console(quiet=config.quiet, json_summary=config.json_summary)
    set_up_logging(config.log_file)
    signal.signal(signal.SIGTERM, _interrupt)
    # A shell that starts us in the background sets SIGINT to be ignored; an explicit interrupt still counts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        summary = pipeline.run(config, console)
    except KeyboardInterrupt:
        console.error("interrupted; nothing is lost: the same command continues where it stopped")
        return int(ExitCode.INTERRUPTED)
    console.summary(summary, out=config.out)
    return int(pipeline.exit_code(summary))


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
