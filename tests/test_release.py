"""What a release needs: metadata that says what is so, a container file and units that keep their promises."""

import re
import subprocess
import sys

import pytest
from packaging.licenses import canonicalize_license_expression

from tests import docs

if sys.version_info >= (3, 11):
    import tomllib
else:  # the test tools bring it
    import tomli as tomllib

PROJECT = tomllib.loads((docs.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = docs.ROOT / "mammoscan"


def test_the_licence_expression_is_valid_and_names_code_and_weights():
    expression = PROJECT["project"]["license"]
    assert canonicalize_license_expression(expression) == expression
    assert expression.startswith("Apache-2.0 AND LicenseRef-")
    assert "research" in expression
    card = (docs.ROOT / "models" / "README.md").read_text(encoding="utf-8")
    assert "Non-commercial research only" in card
    assert set(PROJECT["project"]["license-files"]) == {"LICENSE", "models/README.md"}


def test_every_package_is_in_the_wheel():
    found = {
        ".".join(path.parent.relative_to(docs.ROOT).parts) for path in PACKAGES.rglob("__init__.py")
    }  # fmt: skip
    assert found | {"mammoscan.models"} == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_page_schema_and_picture_of_the_manual_is_in_the_wheel():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["mammoscan"]
    shipped = {path for pattern in patterns for path in PACKAGES.glob(pattern) if path.is_file()}
    assert {path for path in docs.MANUAL.rglob("*") if path.is_file()} <= shipped


def test_the_changelog_has_the_version_with_what_is_new_changed_and_fixed():
    text = (docs.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.split(r"^## ", text, flags=re.MULTILINE)[1]
    assert first.startswith(PROJECT["project"]["version"])
    assert re.findall(r"^### (.*)$", first, flags=re.MULTILINE) == ["New", "Changed", "Fixed"]


@pytest.mark.parametrize("script", ["release", "run", "site"])
def test_scripts_are_well_formed_and_can_be_started(script):
    path = docs.ROOT / ".ci" / script
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert path.stat().st_mode & 0o111


def test_the_container_has_a_user_without_rights_and_only_locked_versions():
    text = (docs.ROOT / "examples" / "container" / "Containerfile").read_text(encoding="utf-8")
    last = text.split("\nFROM ")[-1]
    assert re.search(r"^USER 10001:10001$", last, flags=re.MULTILINE)
    assert "--require-hashes" in text
    assert "||" not in text  # nothing that fails is passed over
    installs = re.findall(r"pip install ([^\\\n]*)", text)
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    # What its RUN lines take from dist/ is what the release makes.
    release = (docs.ROOT / ".ci" / "release").read_text(encoding="utf-8")
    for lock in ("requirements.lock", "requirements-gpu.lock"):
        assert lock in text
        assert f"lock {lock}" in release
