"""What the README says is what the code does."""

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
    first = picture.strip().splitlines()[0]
    package = docs.README.parent / "mammoscan"
    for name in (w.strip() for w in first.split("─►")[1:]):
        assert (package / f"{name}.py").is_file() or (package / name).is_dir(), name


def test_what_a_run_writes_is_what_the_readme_lists(demo_run):
    listed = _readme().split("### What a run writes")[1].split("## ")[0]
    for path in demo_run.rglob("*"):
        if path.is_file():
            assert path.name in listed, path.name
