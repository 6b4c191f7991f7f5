"""``mammoscan review RESULTS``."""

from __future__ import annotations

from pathlib import Path

import click

_TABLE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("review")
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--open/--no-open", "show", default=True, show_default=True, help="Open the page in the browser.")
@click.option(
    "--merge",
    "opinions",
    multiple=True,
    type=_TABLE,
    help="Instead: a reader's exported feedback, to be merged with that of others; may be given several times.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Table for what was merged; disagreements are listed beside it, in NAME-disagreements.csv.",
)
def review_command(results: Path, show: bool, opinions: tuple[Path, ...], out: Path | None) -> None:
    """Make the work list of RESULTS, a folder that `mammoscan run` wrote, anew from its tables, and open it.

    With --merge: make one table of labels, for `mammoscan audit` and `mammoscan train`, of what several readers said on
    that page; say how far they agree (Cohen's kappa of each pair), and list where they do not.

    Exit status: 0 done, 2 usage, 4 a run holds the folder.
    """
    if opinions:
        if out is None:
            raise click.BadParameter("is needed with --merge", param_hint="--out")
        _merge(results, opinions, out)
        return
    if out is not None:
        raise click.BadParameter("is for --merge", param_hint="--out")
    from mammoscan.core import store
    from mammoscan.review import worklist

    worklist.check(results)
    with store.output_lock(results):
        count = worklist.write(results)
    page = results / worklist.INDEX
    click.echo(f"{count} studies: {page}")
    if show:
        click.launch(str(page.resolve()))


def _merge(results: Path, opinions: tuple[Path, ...], out: Path) -> None:
    from mammoscan.review import merge

    for line in merge.write(results, opinions, out):
        click.echo(line)
