"""The package is a house: what a module imports lies below it, and nowhere do imports run in a circle."""

import ast
from pathlib import Path

import mammoscan

# From above; packages of one floor never import each other. The package itself (version, notice) is the ground.
FLOORS = (
    ("cli",), ("run",), ("training",), ("send", "audit", "review"), ("model",), ("report",), ("image", "synthetic"), ("archive",),
    ("core",),
)  # fmt: skip
FLOOR = {room: number for number, floor in enumerate(reversed(FLOORS)) for room in floor}
ROOT = Path(mammoscan.__file__).parent


def _modules():
    """Source by module, named below the package; a package by its own name, ``mammoscan`` itself by ''."""
    out = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return out


def _imports(source, module, known):
    """Modules of the package that a module imports, at whatever depth and also for types alone.

    ``from a import b`` is about module a.b where there is one, else about a.
    """
    own = module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{module}: a relative import of {node.module} in line {node.lineno}")
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, inner = name.partition(".")
            if top == "mammoscan":
                found = inner
                while found not in known:
                    found = found.rpartition(".")[0]
                if found.split(".") != own or not own[0]:
                    yield found


def _arrows(modules):
    return {name: set(_imports(source, name, modules)) - {""} for name, source in modules.items()}


def _room(module):
    return module.split(".")[0]


def _upwards(arrows):
    return {
        (module, other)
        for module, others in arrows.items()
        for other in others
        if _room(module) in FLOOR and _room(module) != _room(other) and FLOOR[_room(other)] >= FLOOR[_room(module)]
    }


def _circles(arrows):
    """Sets of modules each of which imports the others by some way: what is left when ends are taken off."""
    reach = {module: set(others) for module, others in arrows.items()}
    for through in arrows:
        for module in arrows:
            if through in reach[module]:
                reach[module] |= reach[through]
    return sorted({tuple(sorted(b for b in reach[a] if a in reach[b])) for a in arrows if a in reach[a]})


def test_every_package_has_its_floor():
    rooms = {_room(module) for module in _modules() if "." in module}
    assert rooms == set(FLOOR)


def test_no_module_imports_from_above_or_beside():
    found = _upwards(_arrows(_modules()))
    assert not found, "\n".join(f"{module} imports {other}" for module, other in sorted(found))


def test_no_imports_run_in_a_circle():
    found = _circles(_arrows(_modules()))
    assert not found, "\n".join(" <-> ".join(circle) for circle in found)


def test_an_arrow_upwards_and_a_circle_are_seen_also_inside_functions_and_for_types():
    made = {
        "": "",
        "core": "",
        "core.a": "def f():\n    from mammoscan.cli import b\n",
        "core.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mammoscan.core.d import X\n",
        "core.d": "from mammoscan.core import c\n",
        "cli": "from mammoscan import NOTICE\nfrom mammoscan.cli import b\n",
        "cli.b": "import mammoscan.core.a\n",
    }
    arrows = _arrows(made)
    assert _upwards(arrows) == {("core.a", "cli.b")}
    assert _circles(arrows) == [("cli.b", "core.a"), ("core.c", "core.d")]


def test_a_package_that_gathers_its_modules_is_in_a_circle_only_if_one_of_them_imports_from_it():
    made = {
        "": "",
        "image": "from mammoscan.image import a\n",
        "image.a": "from mammoscan.image import b",
        "image.b": "",
    }
    assert not _circles(_arrows(made))
    assert _circles(_arrows(made | {"image.b": "from mammoscan.image import run"})) == [("image", "image.a", "image.b")]
