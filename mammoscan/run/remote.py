"""What a process of a cluster does with an order: a call, made there as in a worker of this machine.

An order travels as bytes that are packed and unpacked here, so that paths are those of the machine that reads them.
"""

from __future__ import annotations

import asyncio
import functools
import io
import os
import pickle
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import mammoscan
from mammoscan.core.errors import ModelError, UsageError
from mammoscan.core.logs import Said
from mammoscan.model import bundle as bundles
from mammoscan.model.precision import vector_units
from mammoscan.run.pool import Crashed, Done, performed

if TYPE_CHECKING:
    from collections.abc import Callable

    from mammoscan.run.tasks import ModelRef

Pairs = tuple[tuple[PurePath, PurePath], ...]  # a folder, and the same one as the other side sees it

# Beside mammoscan itself: other versions of these may change the last bits of a score.
PACKAGES = ("numpy", "opencv-python-headless", "scikit-image", "scipy", "tensorflow")
_POLL = 0.1  # seconds
_PATIENCE = 600.0  # more than any image takes
_WARNING = 30


@dataclass(frozen=True, slots=True)
class Needs:
    """What a worker must have and see to work for a run.

    out: the results folder, by which the run's tasks are known from those of others.
    """

    version: str
    model: ModelRef
    archive: Path
    out: Path


@dataclass(frozen=True, slots=True)
class Order:
    """A task for a worker. back: what turns its paths into the sender's. alone: in a process of its own."""

    number: int
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: Needs
    back: Pairs
    alone: bool = False


def packed(value: Any, pairs: Pairs) -> bytes:
    """A value as bytes, with every path below the first of a pair moved below its second."""
    if not pairs:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    stream = io.BytesIO()
    _Pickler(stream, pairs).dump(value)
    return stream.getvalue()


def unpacked(content: bytes) -> Any:
    """What ``packed`` made bytes of: between us and workers, which may run anything that we could."""
    return pickle.loads(content)  # noqa: S301


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, pairs: Pairs) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        # The longest first: a folder may be mapped otherwise than what it lies in.
        self._pairs = sorted(pairs, key=lambda pair: -len(pair[0].parts))

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, PurePath):
            for here, there in self._pairs:
                if obj.is_relative_to(here):
                    return type(obj), (str(there / obj.relative_to(here)),)
        return NotImplemented


def work(number: int, order: bytes) -> bytes:
    """Carry out an order (``packed``); its number and a ``Done``, packed for its sender.

    Raises nothing: Dask would log what it was given, which names patients.
    """
    from distributed.worker import get_worker

    worker = get_worker()
    try:
        given: Order = unpacked(order)
    except Exception as error:  # noqa: BLE001 (whatever another version makes of it)
        return packed((number, Done(None, unreadable(worker.address, error), [])), ())
    if (problem := unfit(given.needs, worker)) is not None:
        return _answer(given, Done(None, problem, []))
    _Working.out = given.needs.out
    try:
        return _alone(order, given) if given.alone else _answer(given, performed(given.function, given.arguments))
    finally:
        _Working.out = None


def unreadable(worker: str, error: object) -> UsageError:
    """What is to be said of a worker that cannot read what is asked of it."""
    return UsageError(
        f"the worker {worker} cannot do what it is asked ({type(error).__name__})",
        remedy="install the same mammoscan and Python on every machine",
    )


def unfit(needs: Needs, worker: Any) -> UsageError | None:
    """Why this process cannot work for a run, None where it can. worker: Dask's, which it is."""
    who, threads = f"the worker {worker.address}", worker.state.nthreads
    if needs.version != mammoscan.__version__:
        return UsageError(
            f"{who} has mammoscan {mammoscan.__version__}, this machine has {needs.version}",
            remedy="install the same version on every machine",
        )
    if threads != 1:
        return UsageError(
            f"{who} runs {threads} tasks at once in one process",
            remedy="start workers with: dask worker SCHEDULER --nthreads 1 --nworkers auto",
        )
    found, trouble = _model(needs.model.folder)
    if trouble:
        return UsageError(f"{who} cannot use the model: {trouble}", remedy="check --model and --cluster-path")
    if found != needs.model.sha256:
        return UsageError(
            f"{who} has another model ({found[:12]}) than this machine ({needs.model.sha256[:12]})",
            remedy="install the same mammoscan on every machine, or check --model and --cluster-path",
        )
    for what, folder in (("archive", needs.archive), ("results folder", needs.out)):
        # Also a place where nothing is mounted would be a folder.
        if not _holds_something(folder):
            return UsageError(
                f"{who} does not see the {what}",
                remedy="mount it there; where its path is another one, name it with --cluster-path HERE=THERE",
            )
    # One task a process: more threads would only fight for cores that have processes of their own.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
    return None


async def ready(order: bytes, dask_worker: Any) -> bytes:
    """What speaks against this worker (or None), and its versions of PACKAGES; as soon as no earlier run of the same
    results folder works here any more: what a killed parent left running must not write beside the next one.
    """
    given: Order = unpacked(order)
    end = time.monotonic() + _PATIENCE
    while _Working.out == given.needs.out:
        if time.monotonic() > end:
            said = f"the worker {dask_worker.address} still works for an earlier run of the same results folder"
            return packed((UsageError(said, remedy="wait for it, or end that worker"), versions()), ())
        await asyncio.sleep(_POLL)
    return packed((unfit(given.needs, dask_worker), versions()), ())


@functools.cache
def versions() -> dict[str, str]:
    """Of what may change the last bits of a result."""
    found = {"Python": "{}.{}".format(*sys.version_info), "the vector units": ", ".join(vector_units()) or "none known"}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def main() -> None:
    """Carry out one order in a process of its own: paths of the order and of the answer are arguments."""
    given: Order = unpacked(Path(sys.argv[1]).read_bytes())
    Path(sys.argv[2]).write_bytes(_answer(given, performed(given.function, given.arguments)))


def _alone(order: bytes, given: Order) -> bytes:
    with tempfile.TemporaryDirectory(prefix="mammoscan-") as folder:
        asked, answered = Path(folder, "order"), Path(folder, "answer")
        asked.write_bytes(order)
        code = "from mammoscan.run.remote import main; main()"
        done = subprocess.run([sys.executable, "-c", code, str(asked), str(answered)], check=False)  # noqa: S603
        if done.returncode == 0:
            return answered.read_bytes()
    text = f"a task that was lost with its worker killed a process of its own (status {done.returncode})"
    return _answer(given, Done(Crashed(), None, [Said(_WARNING, __name__, text)]))


def _answer(given: Order, done: Done) -> bytes:
    try:
        return packed((given.number, done), given.back)
    except Exception as error:  # noqa: BLE001 (an exception may hold what cannot travel)
        kind = type(done.error or error).__qualname__
        return packed((given.number, Done(None, RuntimeError(f"a worker raised {kind}"), done.said)), given.back)


def _holds_something(folder: Path) -> bool:
    """Whether a folder is there and not empty; it may have a million files, of which one is looked at."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


class _Working:
    """The results folder for which this process works at this moment."""

    out: Path | None = None


@functools.cache
def _model(folder: Path | None) -> tuple[str, str]:
    """SHA-256 of the description of the model in a folder, and why it cannot be used, '' where it can."""
    try:
        return bundles.load(folder).identity.sha256, ""
    except ModelError as error:
        return "", str(error)
