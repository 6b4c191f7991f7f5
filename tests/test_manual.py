"""What README and manual say is what the code does."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from mammoscan.cli import COMMANDS
from tests import docs, man

README_BYTES = 10_000


def _page(name):
    return (docs.MANUAL / name).read_text(encoding="utf-8")


def _readme():
    return docs.README.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", docs.PARTS, ids=lambda page: page.name)
def test_tables_of_the_manual_are_those_of_the_code(page):
    assert docs.rendered(page) == page.read_text(encoding="utf-8"), "run `python -m tests.docs`"


def test_man_pages_are_those_of_the_code():
    found = {path.name: path.read_text(encoding="utf-8") for path in man.FOLDER.iterdir()}
    assert found == man.rendered(), "run `python -m tests.docs`"


def test_the_readme_opens_with_two_commands():
    blocks = _readme().split("```sh\n")
    assert len(blocks) == 3
    assert "mammoscan demo" in blocks[1].split("```")[0]
    assert "pytest" in blocks[2].split("```")[0]


def test_the_readme_can_be_held_in_mind():
    assert docs.README.stat().st_size <= README_BYTES


def test_every_page_is_listed_in_the_readme_in_the_index_and_on_the_site():
    names = {path.name for path in docs.MANUAL.glob("*.md")} - {"index.md"}
    index, site = _page("index.md"), (docs.ROOT / ".github" / "site" / "mkdocs.yml").read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"(mammoscan/docs/{name})" not in _readme()] == ["development.md"]
    assert [name for name in sorted(names) if f"({name})" not in index] == []
    assert [name for name in sorted(names) if name not in site] == []


def _anchors(text):
    """Anchors of a page's headings, as GitHub makes them."""
    words = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", word.strip().lower()).replace(" ", "-") for word in words}


def _pages_of_people():
    more = (".github/CONTRIBUTING.md", "examples/README.md", "examples/systemd/README.md", "CHANGELOG.md")
    return [*docs.pages(), *(docs.ROOT / name for name in more)]


@pytest.mark.parametrize("page", _pages_of_people(), ids=lambda page: page.relative_to(docs.ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target.read_text(encoding="utf-8")), link


def test_every_module_of_the_picture_exists():
    picture = _page("how-it-works.md").split("```")[1]
    words = [word for line in picture.splitlines() if "─►" in line for word in line.strip().split() if word.isalpha()]
    words += [line.partition(" (SQLite")[0] for line in picture.splitlines() if " (SQLite" in line]
    assert {"archive", "inventory", "planner", "work", "publish", "tables", "header", "pixels", "ledger"} <= set(words)
    package = docs.ROOT / "mammoscan"
    modules = {path.parent.name if path.stem == "__init__" else path.stem for path in package.rglob("*.py")}
    assert [word for word in words if word not in modules] == []


def test_what_a_run_writes_is_what_the_manual_lists(demo_run):
    listed = _page("results.md")
    for path in demo_run.rglob("*"):
        if path.is_file():
            name = re.sub(r"(?<=-)\d\d(?=[.-])", "NN", path.name)  # of an image
            name = re.sub(r"(?<=^studies-)[0-9a-f]+(?=\.js$)", "*", name)  # of a part of the work list
            assert name in listed, name


def test_commands_in_the_recipes_exist_with_their_options():
    from click import Context

    from mammoscan.cli import main

    context, seen = Context(main, info_name="mammoscan", **main.context_settings), set()
    for page in _pages_of_people():
        for line in re.findall(rf"mammoscan (?:{'|'.join(COMMANDS)})\b[^\n`|#]*", _code(page)):
            name, *words = line.split()[1:]
            command = main.get_command(context, name)
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            used = {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z-]+.*", word)}
            assert used <= options, (page.name, line)
            seen.add(name)
    assert seen == set(COMMANDS)


def _code(page):
    """What stands in code blocks, lines that go on joined."""
    blocks = re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return "\n".join(blocks).replace("\\\n", " ")


@pytest.mark.parametrize("name", [f"mammoscan-{name}.1" for name in COMMANDS] + ["mammoscan.1"])
def test_man_pages_are_set_without_a_warning(name):
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-Kutf8", str(man.FOLDER / name)],
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.decode()) == (0, "")
    shown = re.sub(r".\x08|\x1b\[\d+m", "", done.stdout.decode())  # no bold
    for section in ("NAME", "SYNOPSIS", "NOTE"):
        assert section in shown
    assert "second reading" in " ".join(shown.split())


def test_a_man_page_says_every_option_and_status():
    shown = man.rendered()["mammoscan-run.1"].replace("\\-", "-")
    assert "--operating-point" in shown
    assert '.SH "ADVANCED"' in shown
    for status in ("0", "1", "2", "3", "4", "70", "130"):
        assert f".TP\n\\fB{status}\\fR\n" in shown


def test_man_pages_take_no_text_for_a_request():
    assert man.text(".TH x") == "\\&.TH x"
    assert man.text("a\\b -c") == "a\\eb \\-c"


def test_the_site_is_built_whole_and_its_links_lead_somewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="mammoscan[docs] is not installed")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site),
         "--config-file", str(docs.ROOT / ".github" / "site" / "mkdocs.yml")],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert {path.with_suffix(".html").name for path in docs.MANUAL.glob("*.md")} <= set(pages)
    for name, text in pages.items():
        assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', text), name  # nothing from the network
        for link in re.findall(r'(?:href|src)="([^"#?]+)', text) if name != "404.html" else ():
            if not re.match(r"[a-z]+:", link):
                assert (site / name).parent.joinpath(link).exists(), (name, link)


def test_the_documentation_says_that_one_papers_sensitivity_is_none():
    assert (
        "Sensitivity is TP/(TP+FN). One of the two source papers prints TP/(TP+TN), which is not a sensitivity."
        in _page("audit.md")
    )


def test_the_systemd_units_are_accepted():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    units = [str(docs.ROOT / "examples" / "systemd" / f"mammoscan.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    # The one complaint is that nothing lies in /opt on this machine.
    left = [line for line in done.stderr.splitlines() if "/opt/mammoscan/bin/mammoscan" not in line]
    assert left == []


def test_the_systemd_service_runs_a_command_that_exists():
    unit = (docs.ROOT / "examples" / "systemd" / "mammoscan.service").read_text(encoding="utf-8")
    words = next(line for line in unit.splitlines() if line.startswith("ExecStart=")).split()
    from mammoscan.cli.run import run_command

    options = {option for parameter in run_command.params for option in parameter.opts}
    assert words[1] == "run"
    assert {word for word in words if word.startswith("--")} <= options
