"""``mammoscan audit RESULTS --labels LABELS.csv --out FOLDER``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click


def _columns(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [text.partition("=") for text in texts]
    if bad := [text for text, (name, _, heading) in zip(texts, pairs, strict=True) if not (name and heading)]:
        raise click.BadParameter(f"{bad[0]!r} is not NAME=HEADING")
    return tuple((name.strip(), heading.strip()) for name, _, heading in pairs)


@click.command("audit")
@click.argument("results", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--labels",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ground truth: a table with a heading row (CSV, .xlsx or .xls).",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the audit.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    callback=_columns,
    metavar="NAME=HEADING",
    help="Heading of a column of the labels, or of a table of scores with results.NAME=HEADING or "
    "baseline.NAME=HEADING; repeatable.",
)
@click.option(
    "--level",
    "levels",
    multiple=True,
    type=click.Choice(["region", "image", "breast", "patient", "study"]),
    help="Levels to report; default all that the labels allow.",
)
@click.option(
    "--threshold", "thresholds", multiple=True, type=float, help="Further thresholds on the score; repeatable."
)
@click.option(
    "--sensitivity",
    "sensitivities",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Also report at the threshold that gives this sensitivity on these cases; repeatable.",
)
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.006,
    show_default=True,
    help="Share with cancer for the predictive values at a prevalence.",
)
@click.option(
    "--baseline",
    type=click.Path(exists=True, path_type=Path),
    default=None,
    help="Other results on the same cases, to compare with.",
)
@click.option(
    "--fail-under",
    multiple=True,
    metavar="[LEVEL.]METRIC[@THRESHOLD][.lower]=VALUE",
    help="Exit with status 5 unless the metric (or its lower limit) reaches VALUE; repeatable. "
    "Metrics where less is better must not exceed it.",
)
@click.option("--replicates", type=click.IntRange(100), default=2000, show_default=True, help="Bootstrap replicates.")
@click.option("--seed", type=click.IntRange(0), default=20240, show_default=True, help="Seed of the bootstrap.")
@click.option(
    "--archive",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Archive with the images, for the pictures; default the one that the run names.",
)
@click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Folder of a trained model, for an archive that is analysed first; the bundled one by default.",
)
@click.option("--quiet", is_flag=True, help="Say nothing unless something is wrong.")
def audit_command(
    results: Path, labels: Path, out: Path, columns: tuple[tuple[str, str], ...], levels: tuple[str, ...],
    thresholds: tuple[float, ...], sensitivities: tuple[float, ...], prevalence: float, baseline: Path | None,
    fail_under: tuple[str, ...], replicates: int, seed: int, archive: Path | None, model: Path | None, *, quiet: bool,
) -> None:  # fmt: skip
    """Hold RESULTS against ground truth.

    RESULTS is a folder that `mammoscan run` wrote, a table with id and score from any system,
    or an archive, which is then analysed first into OUT/run.

    Exit status: 0 done and everything matched, 1 some labels or results found no partner, 2 usage
    or labels that cannot be used or match nothing, 5 a --fail-under is not met; of an archive that is
    analysed first also 3 nothing could be analysed, 4 another run is at work there, 130 interrupted.
    """
    from mammoscan.audit import story
    from mammoscan.audit.measure import Settings
    from mammoscan.audit.report import write_audit
    from mammoscan.audit.results import is_run_folder
    from mammoscan.audit.words import complaints, summary

    config = story.AuditConfig(
        results=results, labels=labels, out=out, columns=columns, levels=levels, thresholds=thresholds,
        settings=Settings(replicates=replicates, seed=seed, prevalence=prevalence, sensitivities=sensitivities),
        baseline=baseline, fail_under=fail_under, archive=archive,
    )  # fmt: skip
    checked = story.check(config)
    if results.is_dir() and not is_run_folder(results):
        _analyse(results, out / "run", model, quiet=quiet)
        config = replace(config, results=out / "run")
    elif model is not None:
        raise click.UsageError("--model is for an archive that is analysed first; RESULTS holds results already")
    found = story.audit(config, checked)
    write_audit(found, out)
    if quiet:
        for line in complaints(found):
            click.echo(line, err=True)
    else:
        click.echo("\n".join(summary(found)))
        click.echo(f"audit: {out / 'audit.html'}")
    raise SystemExit(int(found.exit))


def _analyse(archive: Path, out: Path, model: Path | None, *, quiet: bool) -> None:
    """Run over an archive, or continue; leave with the run's status where there is nothing to audit."""
    # Imported here: auditing existing results needs no network and no decoders.
    from mammoscan.cli.run import execute
    from mammoscan.core.errors import ExitCode
    from mammoscan.run.config import RunConfig

    status = execute(RunConfig(archive=archive, out=out, model=model, quiet=quiet))
    if status not in {ExitCode.ALL_ANALYSED, ExitCode.SOME_FAILED}:
        raise SystemExit(status)
