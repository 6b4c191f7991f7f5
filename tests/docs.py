"""The parts of the README that are made from the code: ``python -m tests.docs`` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path

import click

README = Path(__file__).parent.parent / "README.md"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def commands() -> str:
    """Every command with its arguments and options."""
    from mammoscan.cli import COMMANDS, main

    parts = [_table(("command", "what it does"), [(f"`mammoscan {n}`", t) for n, (_, _, t) in COMMANDS.items()])]
    context = click.Context(main, info_name="mammoscan")
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, parent=context, info_name=name)
        usage = " ".join(command.collect_usage_pieces(inner))
        rows = []
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                record = parameter.get_help_record(inner)
                if record is not None:
                    rows.append((f"`{record[0]}`", " ".join(record[1].split())))
        parts.append(f"#### `mammoscan {name} {usage}`\n\n" + _table(("option", "meaning"), rows))
    return "\n\n".join(parts)


def exit_codes() -> str:
    """Every exit status of ``run``."""
    from mammoscan.core.errors import ExitCode

    meaning = {
        ExitCode.ALL_ANALYSED: "every mammogram that the rules let in was analysed",
        ExitCode.SOME_FAILED: "some files failed, or results are not sent (--send-to); the rest was done",
        ExitCode.USAGE: "options, folders, the model or a cluster cannot be used, or the machine refuses (disk full, "
        "read-only, no locks, a damaged state file, a scheduler that is gone): one line says what and what to do, and the next run goes on",
        ExitCode.NOTHING_ANALYSED: "nothing could be analysed",
        ExitCode.LOCKED: "another run holds the output folder, or another program its state file",
        ExitCode.UNEXPECTED: "an unexpected end: an error in mammoscan itself; the log holds its traceback",
        ExitCode.INTERRUPTED: "interrupted (Ctrl-C or SIGTERM); the same command continues",
    }
    return _table(("status", "meaning"), [(str(int(code)), meaning[code]) for code in ExitCode])


def rules() -> str:
    """Every rule of the header stage."""
    from mammoscan.core.rules import RULES

    return _table(
        ("code", "looks at", "by default", "switch"),
        [(f"`{r.code}`", r.looks_at, r.by_default, r.option or "none") for r in RULES],
    )


def reasons() -> str:
    """Every coded reason."""
    from mammoscan.core.errors import Reason

    return _table(("code", "meaning", "remedy"), [(f"`{r.code}`", r.meaning, r.remedy) for r in Reason])


def columns() -> str:
    """Every column of every table."""
    from mammoscan.report.tables import COLUMNS

    return "\n\n".join(
        f"#### `{name}.csv`\n\n"
        + _table(("column", "unit", "meaning"), [(f"`{c.name}`", c.unit, c.meaning) for c in table])
        for name, table in COLUMNS.items()
    )


def features() -> str:
    """Every region feature."""
    from mammoscan.image.features import FEATURE_DOCS

    return _table(("feature", "unit", "formula", "source"), [(f"`{name}`", *doc) for name, doc in FEATURE_DOCS.items()])


def layouts() -> str:
    """Every layout that training reads."""
    from mammoscan.training.datasets.layouts import LAYOUTS

    return _table(
        ("layout", "recognised by", "what is taken", "cite"),
        [(layout.name, layout.recognised, layout.truth, layout.cite) for layout in LAYOUTS],
    )


def manifest() -> str:
    """Every column of a manifest."""
    from mammoscan.training.datasets.layouts import MANIFEST

    return _table(
        ("column", "needed", "meaning"),
        [(f"`{c.name}`", "yes" if c.needed else "no", c.meaning) for c in MANIFEST],
    )


def operating_points() -> str:
    """The bundled model's operating points and what each costs, as its description says."""
    from mammoscan.core.config import AnalysisConfig
    from mammoscan.model import bundle
    from mammoscan.report import pdf_words

    model = bundle.load(None)
    return _table(
        ("operating point", "default", "image's score", "breast's", "finding's", "what it costs"),
        [
            (
                f"`{name}`",
                "yes" if name == AnalysisConfig().operating_point else "no",
                *(f"{threshold:.3f}" for threshold in (point.image, point.breast, point.finding)),
                pdf_words.cost(point.cost),
            )
            for name, point in model.points.items()
        ],
    )


def kinds() -> str:
    """Every kind of DICOM object, who reads it and why it is written or not."""
    from mammoscan.core.kinds import KINDS

    return _table(
        ("`--write`", "object", "file below the study's folder", "read by", "by default", "reason"),
        [(f"`{k.name}`", k.title, f"`{k.file}`", k.readers, "yes" if k.by_default else "no", k.reason) for k in KINDS],
    )


PARTS = {
    "commands": commands,
    "kinds": kinds,
    "exit codes": exit_codes,
    "rules": rules,
    "reasons": reasons,
    "columns": columns,
    "features": features,
    "operating points": operating_points,
    "layouts": layouts,
    "manifest": manifest,
}


def rendered(text: str) -> str:
    """The README with its parts made anew."""
    for name, make in PARTS.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        assert pattern.search(text), f"the README has no part {name!r}"
        body = make()
        text = pattern.sub(lambda m, body=body: f"{m[1]}{body}\n{m[2]}", text)
    return text


if __name__ == "__main__":
    README.write_text(rendered(README.read_text(encoding="utf-8")), encoding="utf-8")
