"""``mammoscan inspect FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mammoscan.cli.options import analysis_options

if TYPE_CHECKING:
    from mammoscan.core.config import AnalysisConfig


@click.command("inspect")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write the five pictures to this PNG file.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of a trained model; the bundled one by default.",
)
@click.option(
    "--clinical-csv",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="Clinical data for a model that was trained on columns of them, as of `run`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (inspect.schema.json in the manual).")
@analysis_options
def inspect_command(
    file: Path,
    picture: Path | None,
    model: Path | None,
    clinical_csv: Path | None,
    analysis: AnalysisConfig,
    *,
    as_json: bool,
) -> None:
    """Show FILE's header facts, what the rules decide, its findings and the five pictures.

    The facts are printed, so this command shows patient data on the terminal; it writes nothing
    but --picture.

    Exit status: 0 analysed, or skipped by a rule, 1 its pixels cannot be analysed, 2 usage or a model that cannot be
    used, 3 no image that can be read.
    """
    from mammoscan.core import logs
    from mammoscan.core.console import Console
    from mammoscan.run import inspection

    with logs.session(None, anonymous=False):
        result = inspection.inspect(file, analysis, model, clinical_csv)
    if as_json:
        Console().document(result.document)
    else:
        Console().facts(result.facts)
    if picture is not None and result.picture is not None:
        from mammoscan.core import store

        store.write_atomic(picture, result.picture)
        click.echo(f"pictures: {picture}", err=True)
    raise SystemExit(int(result.exit_code))
