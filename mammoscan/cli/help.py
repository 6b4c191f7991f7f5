"""Help that a person can find something in: options by what they are for, as wide as the terminal is."""

from __future__ import annotations

import click

# By the name of the parameter; what is listed nowhere is advanced.
_TITLES = {
    "What is analysed, and what counts": (
        "include", "exclude", "operating_point", "threshold", "max_findings", "density_csv", "clinical_csv", "model", "retry_failed",
        "seed", "write_only",
    ),
    "Where results go, and what is said": (
        "out", "write", "review", "tables_form", "deidentify", "deidentify_key", "quiet", "json_summary", "log_file",
    ),
    "Sending": (
        "destinations", "calling", "tls", "tls_ca", "tls_cert", "tls_key", "token_file", "attempts", "backoff", "timeout",
        "commit_port", "retry_refused",
    ),
    "Other machines": ("cluster", "cluster_paths", "cluster_ca", "cluster_cert", "cluster_key"),
}  # fmt: skip
ADVANCED = "Advanced"
WIDEST = 160  # characters in a line of help; longer ones are hard to follow


class GroupedCommand(click.Command):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups, each with its title."""
        for title, records in sections(self, ctx):
            with formatter.section(title):
                formatter.write_dl(records)


def sections(command: click.Command, ctx: click.Context) -> list[tuple[str, list[tuple[str, str]]]]:
    """Titles, each with its options as (how they are written, what they mean); one group where a command has none."""
    grouped = isinstance(command, GroupedCommand)
    found: dict[str, list[tuple[str, str]]] = {title: [] for title in (*_TITLES, ADVANCED)} if grouped else {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record is not None:
            title = "Options"
            if grouped:
                title = next((t for t, names in _TITLES.items() if parameter.name in names), ADVANCED)
            found.setdefault(title, []).append(record)
    return [(title, records) for title, records in found.items() if records]
