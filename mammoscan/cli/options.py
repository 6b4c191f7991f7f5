"""Options that several commands share."""

from __future__ import annotations

import functools
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from mammoscan.core import kinds
from mammoscan.core.config import FULL, HALF, SWITCHABLE, AnalysisConfig
from mammoscan.core.errors import UsageError
from mammoscan.core.tableforms import FORMS, PLAIN
from mammoscan.model.precision import AUTO, CHOICES
from mammoscan.run import keyfile
from mammoscan.run.config import ClusterConfig, RunConfig
from mammoscan.send.destination import SendConfig, parse, title

if TYPE_CHECKING:
    from collections.abc import Callable

_DEFAULT = AnalysisConfig()
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def analysis_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that change results; the command receives one ``analysis: AnalysisConfig``."""

    @click.option(
        "--include",
        multiple=True,
        type=click.Choice(SWITCHABLE),
        metavar="RULE",
        help="Analyse images that a rule skips by default "
        f"({', '.join(r for r in SWITCHABLE if r not in _DEFAULT.include)}); may be given several times.",
    )
    @click.option(
        "--exclude",
        multiple=True,
        type=click.Choice(SWITCHABLE),
        metavar="RULE",
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
    @click.option(
        "--resolution",
        type=click.Choice((FULL, HALF)),
        default=_DEFAULT.resolution,
        show_default=True,
        help="half: of images with pixels of at most 0.0625 mm look at every second pixel, which is faster; their regions "
        "and scores differ a little.",
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
        resolution: str,
        **kwargs: Any,
    ) -> Any:
        included = tuple(sorted((set(_DEFAULT.include) | set(include)) - set(exclude)))
        analysis = AnalysisConfig(
            include=included,
            max_regions=max_regions,
            max_findings=max_findings,
            max_pixels=max_pixels,
            resolution=resolution,
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
        metavar="KIND",
        help=f"Kind of DICOM object to write ({', '.join(kinds.NAMES)}, all, none); may be given several times. "
        f"[default: {', '.join(kinds.DEFAULT)}]",
    )
    @click.option(
        "--tables",
        "tables_form",
        type=click.Choice(tuple(FORMS)),
        default=PLAIN.name,
        show_default=True,
        help="Form of the CSV tables: plain for programs; excel with a byte order mark and ISO dates; excel-semicolon also "
        "with semicolons and decimal commas, for spreadsheets that write 0,5.",
    )
    @click.option(
        "--density-csv",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=None,
        help="Breast densities read by people: a table with density and an identifier (see the manual: density).",
    )
    @click.option(
        "--clinical-csv",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=None,
        help="Clinical data for a model that was trained on columns of them: a table with these columns and patient_id or "
        "study_instance_uid (see the manual: training).",
    )
    @click.option("--workers", type=click.IntRange(0), default=0, help="Worker processes; 0: one a core.")
    @click.option(
        "--cluster",
        metavar="ADDRESS",
        default=None,
        help="Work on the workers of this Dask scheduler (tcp://HOST:8786) instead of this machine's cores (see the manual: cluster).",
    )
    @click.option(
        "--cluster-path",
        "cluster_paths",
        multiple=True,
        metavar="HERE=THERE",
        callback=_pairs,
        help="Where workers see a folder of this machine, if by another path; may be given several times.",
    )
    @click.option("--cluster-ca", type=_FILE, default=None, help="The cluster's authority: connect with TLS.")
    @click.option("--cluster-cert", type=_FILE, default=None, help="Own certificate for the cluster.")
    @click.option("--cluster-key", type=_FILE, default=None, help="Its key.")
    @click.option(
        "--batch-size",
        type=click.IntRange(0),
        default=0,
        help="Crops in one batch of the network; 0: by the device's memory, or what is measured to be faster.",
    )
    @click.option(
        "--precision",
        type=click.Choice(CHOICES),
        default=AUTO,
        show_default=True,
        help="What the network computes in; auto: what made the results that stand, else float32, or bfloat16 where "
        "the model says that its scores hold in it and the processor has matrix units (AMX).",
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
    @click.option(
        "--compare-content",
        is_flag=True,
        help="Look at the bytes of every file, also where its size and time are as they were.",
    )
    @click.option("--retry-failed", is_flag=True, help="Try again the images that failed in an earlier run.")
    @click.option(
        "--review/--no-review",
        default=True,
        show_default=True,
        help="Write the review page: index.html and a page of every study.",
    )
    @click.option("--quiet", is_flag=True, help="Say nothing unless something is wrong (for cron).")
    @click.option("--json", "json_summary", is_flag=True, help="Print the summary as one JSON object on stdout.")
    @click.option(
        "--log-file",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        help="Append a log (paths and coded reasons, no header values).",
    )
    @click.option(
        "--deidentify",
        is_flag=True,
        help="Write pseudonyms instead of identities: keyed, the same in every run with the same key (see the manual: pseudonyms).",
    )
    @click.option(
        "--deidentify-key",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        help="File with the key of the pseudonyms, made if it is missing. [default: ~/.config/mammoscan/deidentify.key]",
    )
    @analysis_options
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        analysis: AnalysisConfig,
        model: Path | None,
        write: tuple[str, ...],
        tables_form: str,
        density_csv: Path | None,
        clinical_csv: Path | None,
        workers: int,
        cluster: str | None,
        cluster_paths: tuple[tuple[Path, PurePosixPath], ...],
        cluster_ca: Path | None,
        cluster_cert: Path | None,
        cluster_key: Path | None,
        batch_size: int,
        precision: str,
        settle_seconds: float,
        follow_links: bool,
        retry_failed: bool,
        compare_content: bool,
        review: bool,
        quiet: bool,
        json_summary: bool,
        log_file: Path | None,
        deidentify: bool,
        deidentify_key: Path | None,
        **kwargs: Any,
    ) -> Any:
        if deidentify_key is not None and not deidentify:
            raise click.BadParameter("is for results with pseudonyms: add --deidentify", param_hint="--deidentify-key")
        if cluster is None and (cluster_paths or cluster_ca or cluster_cert or cluster_key):
            raise click.BadParameter("is for a cluster: add --cluster", param_hint="--cluster-...")
        if cluster_ca is None and (cluster_cert or cluster_key):
            raise click.BadParameter("is for TLS: add --cluster-ca", param_hint="--cluster-cert and --cluster-key")
        there = ClusterConfig(cluster, cluster_paths, cluster_ca, cluster_cert, cluster_key) if cluster else None

        def configure(archive: Path, out: Path) -> RunConfig:
            return RunConfig(
                archive=archive,
                out=out,
                analysis=analysis,
                write=_kinds(write),
                model=model,
                workers=workers,
                cluster=there,
                batch_size=batch_size,
                precision=precision,
                settle_seconds=settle_seconds,
                density_csv=density_csv,
                clinical_csv=clinical_csv,
                follow_links=follow_links,
                quiet=quiet,
                json_summary=json_summary,
                tables=tables_form,
                log_file=log_file,
                retry_failed=retry_failed,
                compare_content=compare_content,
                review=review,
                deidentify=(deidentify_key or keyfile.default()) if deidentify else None,
            )

        return command(*args, configure=configure, **kwargs)

    return wrapped


def _pairs(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[Path, PurePosixPath], ...]:
    """Folders and where workers see them, or a usage error at its option."""
    found = []
    for value in values:
        here, equals, there = value.partition("=")
        if not here or not equals or not there.startswith("/"):
            raise click.BadParameter(
                f"{value!r}: give HERE=THERE, a folder of this machine and its absolute path there"
            )
        found.append((Path(here).absolute(), PurePosixPath(there)))
    return tuple(found)


def send_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of sending; the command receives ``sending(destinations) -> SendConfig``."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    default = SendConfig()

    @click.option("--calling", default=default.calling, show_default=True, callback=_title, help="Own AE title.")
    @click.option("--tls", is_flag=True, help="C-STORE over TLS (https is always checked).")
    @click.option("--tls-ca", type=file, default=None, help="Certificates to trust instead of the system's.")
    @click.option("--tls-cert", type=file, default=None, help="Own certificate, where the peer asks for one.")
    @click.option("--tls-key", type=file, default=None, help="Its key, where it is not in the same file.")
    @click.option("--token-file", type=file, default=None, help="File with a bearer token for STOW-RS.")
    @click.option(
        "--attempts",
        type=click.IntRange(1, 100),
        default=default.attempts,
        show_default=True,
        help="Tries while a peer fails for the time being; the wait before each is twice the last.",
    )
    @click.option(
        "--backoff",
        type=click.FloatRange(0),
        default=default.backoff,
        show_default=True,
        help="Seconds before the second try.",
    )
    @click.option(
        "--timeout",
        type=click.FloatRange(0.1),
        default=default.timeout,
        show_default=True,
        help="Seconds without an answer that end a try.",
    )
    @click.option(
        "--commit-port",
        type=click.IntRange(0, 65535),
        default=default.commit_port,
        show_default=True,
        help="Port to listen on for storage commitment reports; 0: only on the own association.",
    )
    @click.option("--retry-refused", is_flag=True, help="Offer again what a peer refused for good.")
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        calling: str,
        tls: bool,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        token_file: Path | None,
        attempts: int,
        backoff: float,
        timeout: float,
        commit_port: int,
        retry_refused: bool,
        **kwargs: Any,
    ) -> Any:
        def sending(destinations: tuple[str, ...]) -> SendConfig:
            from mammoscan.send import credentials

            config = SendConfig(
                destinations=tuple(parse(text) for text in dict.fromkeys(destinations)),
                calling=calling,
                tls=tls,
                ca=tls_ca,
                certificate=tls_cert,
                key=tls_key,
                token_file=token_file,
                attempts=attempts,
                backoff=backoff,
                timeout=timeout,
                commit_port=commit_port,
                retry_refused=retry_refused,
            )
            # Now, and not when a night's work is done.
            credentials.check(config)
            return config

        return command(*args, sending=sending, **kwargs)

    return wrapped


def _title(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """An AE title, or a usage error at its option."""
    try:
        return title(value)
    except UsageError as error:
        raise click.BadParameter(error.message) from error


def _kinds(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds to write, in their own order."""
    if "none" in chosen and len(set(chosen)) > 1:
        raise click.BadParameter("none cannot be combined with a kind", param_hint="--write")
    if not chosen:
        return kinds.DEFAULT
    return kinds.NAMES if "all" in chosen else tuple(name for name in kinds.NAMES if name in chosen)
