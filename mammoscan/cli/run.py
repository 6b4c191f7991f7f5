"""``mammoscan run ARCHIVE --out FOLDER``."""

from __future__ import annotations

import json
import logging
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from mammoscan.cli.help import GroupedCommand
from mammoscan.cli.options import run_options, send_options
from mammoscan.core import logs
from mammoscan.core.console import Console, summary_dict
from mammoscan.core.errors import ExitCode, MammoscanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mammoscan.run.config import RunConfig
    from mammoscan.send.destination import SendConfig

log = logging.getLogger(__name__)


@click.command("run", cls=GroupedCommand)
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

    Exit status: 0 all analysed, 1 some files failed or results are not sent, 2 options, folders or the machine cannot
    be used, 3 nothing could be analysed, 4 another run or program holds the output folder, 70 an unexpected end,
    130 interrupted.
    """
    config = configure(archive, out)
    if destinations:
        config = replace(config, send=sending(destinations))
    raise SystemExit(execute(config))


def execute(config: RunConfig) -> int:
    """Run with a console; return the exit status."""
    console = Console(quiet=config.quiet, json_summary=config.json_summary)
    signal.signal(signal.SIGTERM, _interrupt)
    # A shell that starts us in the background sets SIGINT to be ignored; an explicit interrupt still counts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with logs.session(config.log_file, anonymous=config.deidentify is not None), console.one_line():
        try:
            status = _execute(config, console)
        except MammoscanError as error:
            # What an error says of a place may name people.
            log.error("end: %s (%s)", error.message, error.remedy)  # noqa: TRY400 (no traceback: it is no surprise)
            raise
        except KeyboardInterrupt:
            status = ExitCode.INTERRUPTED
            console.error("interrupted; nothing is lost: the same command continues where it stopped")
        log.info("end: status %d", status)
        if (trouble := logs.trouble()) is not None:
            console.error(f"{config.log_file}: the log is not whole: {trouble.strerror}")
    return int(status)


def _execute(config: RunConfig, console: Console) -> ExitCode:
    from mammoscan.core import verdict
    from mammoscan.run import pipeline

    summary = pipeline.run(config, console)
    console.summary(summary, out=config.out)
    said = verdict.verdict(summary, config.out)
    if said:
        console.last_word(said)
    log.info("counts: %s", json.dumps({k: v for k, v in summary_dict(summary).items() if k != "most_suspicious"}))
    return verdict.exit_code(summary)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
