"""Data as scripts: what a page reads from a folder without a server, since a page may not open local files.

A script is one call of a function of the page with JSON in it: nothing but ASCII, so that no server need name an
encoding, and no ``<``, so that no text of a header can end or begin an element wherever the script is put.
"""

from __future__ import annotations

import json
from typing import Any


def call(function: str, *values: Any) -> bytes:
    """A script that calls a function of the page with JSON values. The same values give the same bytes."""
    return called(function, *map(literal, values))


def called(function: str, *literals: str) -> bytes:
    """``call``, of values that are literals already."""
    return f"mammoscan.{function}({','.join(literals)});\n".encode("ascii")


def literal(value: Any) -> str:
    """A JSON value as a literal of a script, ASCII without ``<``; nan and infinity are a ``ValueError``."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
