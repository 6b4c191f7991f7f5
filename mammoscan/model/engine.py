"""Whether the network's engine is there. All that reads, audits and sends results works without it."""

from __future__ import annotations

import importlib.util
from importlib.metadata import requires

from mammoscan.core.errors import UsageError

ENGINE = "tensorflow"


def needed() -> None:
    """Check before any work that the network can be computed here; nothing is imported.

    Raises
    ------
    UsageError
        When TensorFlow is not installed.
    """
    if importlib.util.find_spec(ENGINE) is None:
        wanted = next(line for line in requires("mammoscan") or () if line.startswith(ENGINE))
        raise UsageError(
            "this needs the network's engine, TensorFlow, which is not installed here",
            remedy=f"pip install '{wanted}'; audit and send work without it",
        )
