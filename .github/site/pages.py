"""What the site shows beside the manual's own pages: README, changelog, model card and how to contribute."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
MANUAL = "mammoscan/docs"
# By their place in the repository: the page that they become.
BESIDE = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "models/README.md": "model-card.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    "examples/systemd/README.md": "systemd.md",
}
_LINK = re.compile(r"(\]\()([^)#:\s]+)")


def _relinked(text: str, folder: str) -> str:
    """The text of a page below ``folder`` with its links as the site has them; files without a page are named only."""

    def link(match: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join(folder, match[2]))
        if place in BESIDE:
            return match[1] + BESIDE[place]
        below = posixpath.relpath(place, MANUAL)
        return match[1] + (below if not below.startswith("..") else f"files/{place}")

    return _LINK.sub(link, text)


def on_files(files, config):  # noqa: ANN001, ANN201 (mkdocs calls it with its own types)
    """Add the pages beside the manual, and the files that pages link to."""
    wanted = set()
    for place, page in BESIDE.items():
        text = _relinked((ROOT / place).read_text(encoding="utf-8"), posixpath.dirname(place))
        files.append(File.generated(config, page, content=text))
        wanted |= set(re.findall(r"\]\(files/([^)#\s]+)", text))
    for file in files.documentation_pages():
        if file.src_uri not in BESIDE.values():
            wanted |= set(re.findall(r"\]\(files/([^)#\s]+)", _relinked(file.content_string, MANUAL)))
    for place in sorted(wanted):
        if (ROOT / place).is_file():
            files.append(File.generated(config, f"files/{place}", content=(ROOT / place).read_bytes()))
    return files


def on_page_markdown(markdown, page, **_):  # noqa: ANN001, ANN003, ANN201
    """Links of the manual's own pages, as the site has them."""
    return markdown if page.file.src_uri in BESIDE.values() else _relinked(markdown, MANUAL)
