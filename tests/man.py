"""The man pages, made from click: ``python -m tests.docs`` writes them anew.

click-man would do, but that it reads only groups whose commands are loaded and knows no groups of options.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from mammoscan import NOTICE, __version__

FOLDER = Path(__file__).parent.parent / "mammoscan" / "docs" / "man"
STATUS = "Exit status: "
SEEN_ALSO = "The manual, in the package's folder docs, and as a site."


def text(written: str) -> str:
    """Text as troff takes it: no escapes, no line that begins as a request would."""
    plain = written.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", plain, flags=re.MULTILINE)


def paragraphs(written: str) -> list[str]:
    """A command's help by paragraph, each in one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", written.strip()) if part.strip()]


def statuses(sentence: str) -> list[tuple[str, str]]:
    """Statuses with their meaning, out of 'Exit status: 0 all analysed, 1 some failed'."""
    body = sentence.removeprefix(STATUS).removesuffix(".")
    return re.findall(r"(\d+) (.*?)(?:[,;] (?:of .*? also )?(?=\d+ )|$)", body)


def _page(
    name: str, short: str, synopsis: str, about: list[str], parts: list[tuple[str, list[tuple[str, str]]]]
) -> str:
    out = [
        f'.TH "{name.upper()}" "1" "" "mammoscan {__version__}" "mammoscan manual"',
        ".SH NAME",
        f"{text(name)} \\- {text(short)}",
        ".SH SYNOPSIS",
        f".B {text(name.replace('-', ' ', 1))}",
        text(synopsis),
        ".SH DESCRIPTION",
        "\n.PP\n".join(text(paragraph) for paragraph in about),
    ]
    for title, records in parts:
        out.append(f'.SH "{text(title.upper())}"')
        for term, meaning in records:
            out += [".TP", f"\\fB{text(term)}\\fR", text(" ".join(meaning.split()))]
    out += [".SH NOTE", text(NOTICE), ".SH SEE ALSO", text(SEEN_ALSO)]
    return "\n".join(out) + "\n"


def rendered() -> dict[str, str]:
    """Every man page by its file name: of the program, and of each command."""
    from mammoscan.cli import COMMANDS, main
    from mammoscan.cli.help import sections

    context = click.Context(main, info_name="mammoscan", **main.context_settings)
    listed = [(f"mammoscan-{name}(1)", short) for name, (_, _, short) in COMMANDS.items()]
    first = paragraphs(main.help or "")[0]
    pages = {"mammoscan.1": _page("mammoscan", first, "COMMAND [ARGUMENTS]", [first], [("commands", listed)])}
    for name, (_, _, short) in COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, parent=context, info_name=name)
        about = paragraphs((command.help or "").replace("\b", ""))
        ends = [("exit status", statuses(p)) for p in about if p.startswith(STATUS)]
        about = [p for p in about if not p.startswith(STATUS)]
        usage = " ".join(command.collect_usage_pieces(inner))
        parts = [*sections(command, inner), *ends]
        pages[f"mammoscan-{name}.1"] = _page(f"mammoscan-{name}", short.removesuffix("."), usage, about, parts)
    return pages


def write() -> None:
    """Bring the files up to date; pages of commands that are no more are removed."""
    pages = rendered()
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.1"):
        if path.name not in pages:
            path.unlink()
    for name, content in pages.items():
        (FOLDER / name).write_text(content, encoding="utf-8")
