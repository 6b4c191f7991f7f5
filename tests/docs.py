"""The parts of README, manual and conformance statement that are made from the code.

``python -m tests.docs`` writes them anew, and the man pages.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from tests import conformance, man
from tests.markdown import table

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
MANUAL = ROOT / "mammoscan" / "docs"


def commands() -> str:
    """Every command with its arguments and options."""
    from mammoscan.cli import COMMANDS, main
    from mammoscan.cli.help import sections

    parts = [table(("command", "what it does"), [(f"`mammoscan {n}`", t) for n, (_, _, t) in COMMANDS.items()])]
    context = click.Context(main, info_name="mammoscan", **main.context_settings)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, parent=context, info_name=name)
        usage = " ".join(command.collect_usage_pieces(inner))
        parts.append(f"## `mammoscan {name} {usage}`")
        for title, records in sections(command, inner):
            rows = [
                (f"`{written}`", " ".join(meaning.split())) for written, meaning in records if "--help" not in written
            ]
            if rows:
                parts.append(f"**{title}**\n\n" * (title != "Options") + table(("option", "meaning"), rows))
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
    return table(("status", "meaning"), [(str(int(code)), meaning[code]) for code in ExitCode])


def statuses() -> str:
    """The exit statuses that each command's help names."""
    from mammoscan.cli import COMMANDS, main

    context = click.Context(main, info_name="mammoscan", **main.context_settings)
    rows = []
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None, name
        for paragraph in man.paragraphs(command.help or ""):
            if paragraph.startswith(man.STATUS):
                rows += [(f"`{name}`", status, meaning) for status, meaning in man.statuses(paragraph)]
    return table(("command", "status", "meaning"), rows)


def rules() -> str:
    """Every rule of the header stage."""
    from mammoscan.core.rules import RULES

    return table(
        ("code", "looks at", "by default", "switch"),
        [(f"`{r.code}`", r.looks_at, r.by_default, r.option or "none") for r in RULES],
    )


def reasons() -> str:
    """Every coded reason."""
    from mammoscan.core.errors import Reason

    return table(("code", "meaning", "remedy"), [(f"`{r.code}`", r.meaning, r.remedy) for r in Reason])


def columns() -> str:
    """Every column of every table."""
    from mammoscan.report.tables import COLUMNS

    return "\n\n".join(
        f"### `{name}.csv`\n\n"
        + table(("column", "unit", "meaning"), [(f"`{c.name}`", c.unit, c.meaning) for c in listed])
        for name, listed in COLUMNS.items()
    )


def features() -> str:
    """Every region feature."""
    from mammoscan.image.features import FEATURE_DOCS

    return table(("feature", "unit", "formula", "source"), [(f"`{name}`", *doc) for name, doc in FEATURE_DOCS.items()])


def layouts() -> str:
    """Every layout that training reads."""
    from mammoscan.training.datasets.layouts import LAYOUTS

    return table(
        ("layout", "recognised by", "what is taken", "cite"),
        [(layout.name, layout.recognised, layout.truth, layout.cite) for layout in LAYOUTS],
    )


def manifest() -> str:
    """Every column of a manifest."""
    from mammoscan.training.datasets.layouts import MANIFEST

    return table(
        ("column", "needed", "meaning"),
        [(f"`{c.name}`", "yes" if c.needed else "no", c.meaning) for c in MANIFEST],
    )


def operating_points() -> str:
    """The bundled model's operating points and what each costs, as its description says."""
    from mammoscan.core.config import AnalysisConfig
    from mammoscan.model import bundle
    from mammoscan.report import pdf_words

    model = bundle.load(None)
    return table(
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

    return table(
        ("`--write`", "object", "file below the study's folder", "read by", "by default", "reason"),
        [(f"`{k.name}`", k.title, f"`{k.file}`", k.readers, "yes" if k.by_default else "no", k.reason) for k in KINDS],
    )


PARTS = {
    README: {"exit codes": exit_codes},
    MANUAL / "commands.md": {"commands": commands},
    MANUAL / "automation.md": {"statuses": statuses},
    MANUAL / "results.md": {"kinds": kinds},
    MANUAL / "skipped.md": {"rules": rules, "reasons": reasons},
    MANUAL / "tables.md": {"columns": columns},
    MANUAL / "features.md": {"features": features},
    MANUAL / "operating-points.md": {"operating points": operating_points},
    MANUAL / "training.md": {"layouts": layouts, "manifest": manifest},
    MANUAL / "conformance.md": conformance.PARTS,
}


def rendered(page: Path) -> str:
    """A page with its parts made anew."""
    text = page.read_text(encoding="utf-8")
    for name, make in PARTS[page].items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        assert pattern.search(text), f"{page.name} has no part {name!r}"
        body = make()
        text = pattern.sub(lambda m, body=body: f"{m[1]}{body}\n{m[2]}", text)
    return text


def pages() -> list[Path]:
    """README and every page of the manual."""
    return [README, *sorted(MANUAL.glob("*.md"))]


if __name__ == "__main__":
    for path in PARTS:
        path.write_text(rendered(path), encoding="utf-8")
    man.write()
