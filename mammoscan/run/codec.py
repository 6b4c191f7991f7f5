"""The types of ``domain`` to bytes and back, without pickle: JSON for values, NPZ for arrays.

What the ledger keeps must be readable after an update, and a file in an output folder must never
be able to run code.
"""

from __future__ import annotations

import dataclasses
import io
import json
import types
import typing
import zipfile
import zlib
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mammoscan.core import domain

T = TypeVar("T")

# What comes of fields that this version does not know, and of bytes that are not what was written: the ZIP container's
# own complaints, a flag for encryption or an unknown method in a changed byte, arrays that end early.
_MISFIT = (KeyError, TypeError, AttributeError)
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)


def encode(value: Any) -> bytes:
    """Encode a frozen type of ``domain`` (or a tuple of them)."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = _pack(value, arrays)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(_entry("tree.json"), json.dumps(tree, ensure_ascii=False, separators=(",", ":")))
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            archive.writestr(_entry(name), content.getvalue())
    return out.getvalue()


def decode(kind: type[T], content: bytes) -> T:
    """Decode what ``encode`` made of a ``kind``.

    Raises
    ------
    ValueError
        When the content does not fit the type (made by another version) or is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            tree = json.loads(archive.read("tree.json"))
            arrays = {
                name: np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
                for name in archive.namelist()
                if name != "tree.json"
            }
        return typing.cast("T", _unpack(kind, tree, arrays))
    except (*_MISFIT, *_DAMAGE) as error:
        raise ValueError(f"not a {kind.__name__} of this version: {error}") from error


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # no clock: the same value gives the same bytes
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _pack(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, np.ndarray):
        name = f"{len(arrays)}.npy"
        arrays[name] = value
        return name
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return str(value).encode("utf-8", "surrogateescape").hex()
    if isinstance(value, tuple):
        return [_pack(item, arrays) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _pack(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"cannot encode {type(value).__name__}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    names = {**vars(domain), "NDArray": np.ndarray}
    # NDArray[...] is only imported for type checkers; here an array is an array.
    return {
        f.name: np.ndarray if str(f.type).startswith("NDArray") else _resolve(str(f.type), names)
        for f in dataclasses.fields(kind)
    }


def _resolve(text: str, names: dict[str, Any]) -> Any:
    if text.startswith("NDArray[") and text.endswith("| None"):
        return np.ndarray | None
    return eval(text, names)


def _unpack(kind: Any, tree: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if tree is None:
            return None
        (inner,) = (k for k in typing.get_args(kind) if k is not type(None))
        return _unpack(inner, tree, arrays)
    if origin is tuple:
        kinds = typing.get_args(kind)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return tuple(_unpack(kinds[0], item, arrays) for item in tree)
        return tuple(_unpack(k, item, arrays) for k, item in zip(kinds, tree, strict=True))
    if kind is np.ndarray:
        return arrays[tree]
    if kind is Path:
        return Path(bytes.fromhex(tree).decode("utf-8", "surrogateescape"))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind[tree]
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        if set(tree) != set(hints):
            raise KeyError(f"fields of {kind.__name__} differ")
        return kind(**{name: _unpack(hints[name], tree[name], arrays) for name in hints})
    if kind is float and type(tree) is int:
        return float(tree)
    if type(tree) is not kind:
        raise TypeError(f"{tree!r} is no {kind.__name__}")
    return tree
