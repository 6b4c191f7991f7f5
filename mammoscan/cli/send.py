"""``mammoscan send RESULTS --to DESTINATION``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mammoscan.cli.options import send_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from mammoscan.send.destination import SendConfig


@click.command("send")
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--to",
    "destinations",
    multiple=True,
    required=True,
    metavar="AE@HOST:PORT|URL",
    help="A C-STORE peer, or a DICOMweb server as https://host/path/studies; may be given several times.",
)
@click.option("--quiet", is_flag=True, help="Say nothing unless something is wrong (for cron).")
@click.option(
    "--log-file", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Append a log (no header values)."
)
@send_options
def send_command(
    results: Path,
    destinations: tuple[str, ...],
    quiet: bool,
    log_file: Path | None,
    sending: Callable[[tuple[str, ...]], SendConfig],
) -> None:
    """Send the DICOM results below RESULTS, a folder that `mammoscan run` wrote, to each destination once.

    The queue stands in the folder's state file: what fails is tried again with growing waits, and by
    the next call of the same command. What was sent is never sent again unless it has changed. What a
    peer refuses for good is said once and left out from then on.

    Exit status: 0 everything is sent or was refused before, 1 something is not sent yet or is refused now,
    2 usage, 4 a run holds the folder.
    """
    from mammoscan.core import logs, store
    from mammoscan.core.console import Console
    from mammoscan.core.errors import ExitCode, UsageError
    from mammoscan.run.ledger import NAME, Ledger
    from mammoscan.send.deliver import deliver

    config = sending(destinations)
    logs.set_up(log_file)
    if not (results / NAME).is_file():
        raise UsageError("not a folder of results", path=results, remedy="give the --out folder of `mammoscan run`")
    with store.output_lock(results), Ledger(results) as ledger:
        delivery = deliver(ledger, results, config, Console(quiet=quiet))
    if not quiet:
        before = f"; refused before: {delivery.refused}" if delivery.refused else ""
        click.echo(f"sent now: {delivery.sent}; sent before: {delivery.already}; not sent: {delivery.unsent}{before}")
    raise SystemExit(int(ExitCode.SOME_FAILED if delivery.unsent else ExitCode.ALL_ANALYSED))
