"""What a training keeps on disk is found again by what decided it: films, settings and the code that made it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import mammoscan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mammoscan.training.datasets.film import Film


def digest(films: Sequence[Film], settings: object, code: Sequence[str]) -> str:
    """Twelve hex digits of SHA-256. settings: what JSON can hold; code: patterns of files below the package.

    Raises
    ------
    ValueError
        For a pattern that no file has: what was moved would decide nothing any more.
    """
    total = hashlib.sha256(json.dumps(settings).encode())
    for film in films:
        total.update(f"{film.source}/{film.name}/{film.patient}/{film.label}/{film.rows}\n".encode())
    package = Path(mammoscan.__file__).parent
    found = {pattern: list(package.glob(pattern)) for pattern in code}
    if lost := [pattern for pattern, paths in found.items() if not paths]:
        raise ValueError(f"no file is {', '.join(lost)}")
    for path in sorted({path for paths in found.values() for path in paths}):
        total.update(path.read_bytes())
    return total.hexdigest()[:12]
