"""The command line: options to a configuration, one call, an exit status. Nothing else."""

from __future__ import annotations

from importlib import import_module

import click

from mammoscan import NOTICE, __version__
from mammoscan.cli.help import WIDEST
from mammoscan.core.errors import ExitCode, LockedError, MammoscanError

# Command name to the module and the function that hold it; modules load when they are used, so
# that `mammoscan --help` answers at once and without TensorFlow.
COMMANDS = {
    "run": ("mammoscan.cli.run", "run_command", "Analyse an archive into reports and tables."),
    "send": ("mammoscan.cli.send", "send_command", "Send results to a PACS, each once."),
    "inspect": ("mammoscan.cli.inspect", "inspect_command", "Show one file's facts, decisions and pictures."),
    "demo": ("mammoscan.cli.demo", "demo_command", "Write synthetic example studies and run over them."),
    "audit": ("mammoscan.cli.audit", "audit_command", "Hold results against ground truth."),
    "review": (
        "mammoscan.cli.review",
        "review_command",
        "Make and open the work list of results; merge readers' feedback.",
    ),
    "train": ("mammoscan.cli.train", "train_command", "Train and evaluate a model."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of a first use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        module, function, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Turn every error into one line and the right status."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            raise  # whoever read our output is gone; click ends quietly
        except KeyboardInterrupt:
            raise _Exit("interrupted", ExitCode.INTERRUPTED) from None
        except Exception as error:
            raise _one_line(error) from error


def _one_line(error: Exception) -> _Exit:
    """What a command says of an error: in the user's terms, in the machine's, or that nobody foresaw it."""
    from mammoscan.core import faults

    known = error if isinstance(error, MammoscanError) else faults.explained(error)
    if known is not None:
        return _Exit(str(known), ExitCode.LOCKED if isinstance(known, LockedError) else ExitCode.USAGE)
    from mammoscan.core import logs

    place = logs.keep(error)
    where = f"please report it with {place}" if place else "run it again with --log-file and report it with that file"
    return _Exit(f"an unexpected end in mammoscan, {type(error).__name__} ({where})", ExitCode.UNEXPECTED)


class _Exit(click.ClickException):
    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]


@click.group(
    cls=LazyGroup,
    help=f"Scan archives of DICOM mammograms: structured reports, tables, PDFs, audit.\n\n{NOTICE}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
)
@click.version_option(__version__, prog_name="mammoscan")
def main() -> None:
    """Entry point; the help text is above."""
