"""What the README says is what the code does."""

import re

from tests import docs


def _readme():
    return docs.README.read_text(encoding="utf-8")


def test_tables_of_the_readme_are_those_of_the_code():
    assert docs.rendered(_readme()) == _readme(), "run `python -m tests.docs`"


def test_the_readme_opens_with_two_commands():
    blocks = _readme().split("```sh\n")
    assert len(blocks) == 3
    assert "mammoscan demo" in blocks[1].split("```")[0]
    assert "pytest" in blocks[2].split("```")[0]


def test_every_module_of_the_picture_exists():
    picture = _readme().split("## In one picture")[1].split("```")[1]
    words = [word for line in picture.splitlines() if "─►" in line for word in line.strip().split() if word.isalpha()]
    words += [line.partition(" (SQLite")[0] for line in picture.splitlines() if " (SQLite" in line]
    assert {"archive", "inventory", "planner", "work", "publish", "tables", "header", "pixels", "ledger"} <= set(words)
    package = docs.README.parent / "mammoscan"
    modules = {path.parent.name if path.stem == "__init__" else path.stem for path in package.rglob("*.py")}
    assert [word for word in words if word not in modules] == []


def test_what_a_run_writes_is_what_the_readme_lists(demo_run):
    listed = _readme().split("### What a run writes")[1].split("## ")[0]
    for path in demo_run.rglob("*"):
        if path.is_file():
            name = re.sub(r"(?<=-)\d\d(?=[.-])", "NN", path.name)  # of an image
            assert name in listed, name
