"""Readers of labelled image sets for training: ``find`` tells what a folder holds, ``read`` reads it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mammoscan.core.errors import LabelError
from mammoscan.training.datasets import cbis_tcia, folders, inbreast, layouts, manifest, mias_original

if TYPE_CHECKING:
    from mammoscan.training.datasets.film import Film

log = logging.getLogger(__name__)

_DEEPEST = 6  # folders below DATA that are looked into


@dataclass(frozen=True, slots=True)
class Found:
    """A recognised set. layout: name of its ``layouts.Layout``. path: its folder, or its table."""

    layout: str
    path: Path

    def films(self) -> list[Film]:
        """Its films, by name. Raises LabelError with file, row and column for anything that can't be used."""
        if self.layout == layouts.PREPARED:
            return folders.read_folder(self.path, folders.recognise(self.path))
        if self.layout == layouts.MIAS:
            return mias_original.read(self.path)
        if self.layout == layouts.CBIS:
            return list(cbis_tcia.read(self.path))
        if self.layout == layouts.INBREAST:
            return inbreast.read(self.path)
        return manifest.read(self.path)


def find(data: Path) -> list[Found]:
    """The sets below a folder, or the manifest that ``data`` is.

    Raises
    ------
    LabelError
        When nothing is recognised or a folder cannot be listed.
    """
    if data.is_file():
        return [Found(layouts.MANIFEST_CSV, data)]
    out: list[Found] = []
    seen: set[Path] = set()
    waiting = [(data, 0)]
    while waiting:
        folder, depth = waiting.pop()
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        try:
            found, closed = _recognised(folder)
            inner = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
        except OSError as error:
            raise LabelError(
                f"cannot be listed: {error.strerror}", path=folder, remedy="check its permissions"
            ) from error
        out.extend(found)
        if not closed and depth < _DEEPEST:
            waiting.extend((p, depth + 1) for p in reversed(inner) if not cbis_tcia.CASE.fullmatch(p.name))
    if not out:
        known = "; ".join(f"{layout.name}: {layout.recognised}" for layout in layouts.LAYOUTS)
        raise LabelError("no labelled images of a known layout", path=data, remedy=f"known are {known}")
    return out


def read(data: Path) -> list[Film]:
    """The films of all sets below a folder, set by set; what was recognised is logged.

    Raises
    ------
    LabelError
        As the readers; and where two sets hold the same film.
    """
    films: dict[tuple[str, str], Film] = {}
    for found in find(data):
        of_set = found.films()
        log.info("%s: %s, %d images", found.path, found.layout, len(of_set))
        for film in of_set:
            other = films.setdefault((film.source, film.name), film)
            if other is not film:
                raise LabelError(
                    f"row {film.row}: film {film.name} of {film.source} is already in {other.table}",
                    path=film.table,
                    remedy="keep one of the two",
                )
    return list(films.values())


def _recognised(folder: Path) -> tuple[list[Found], bool]:
    """The sets whose tables lie in a folder, and whether everything below belongs to them."""
    if folders.recognise(folder):
        return [Found(layouts.PREPARED, folder)], True
    if (info := mias_original.info_file(folder)) is not None:
        return [Found(layouts.MIAS, info)], True
    if (table := inbreast.table_in(folder)) is not None:
        return [Found(layouts.INBREAST, table)], True
    out = [Found(layouts.CBIS, folder)] if cbis_tcia.tables_in(folder) else []
    if (folder / manifest.NAME).is_file():
        out.append(Found(layouts.MANIFEST_CSV, folder / manifest.NAME))
    return out, False
