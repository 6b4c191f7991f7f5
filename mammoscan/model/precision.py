"""In which precision the network computes: asked for, or what the machine and the model allow. No TensorFlow."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mammoscan.model.bundle import Bundle

AUTO = "auto"
CPUINFO = Path("/proc/cpuinfo")
_MATRIX_UNIT = "amx_bf16"  # without it bfloat16 is no faster: measured with AVX512_BF16 alone
# By which kernels are chosen, and with them the order of sums.
_VECTOR_UNITS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")


class Precision(Enum):
    """What the convolutions compute in; pooling, heads and scores are in single precision or better."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


CHOICES = (AUTO, *(precision.value for precision in Precision))


def chosen(wanted: str, bundle: Bundle, *, before: str = "", cpuinfo: Path = CPUINFO) -> Precision:
    """The precision of a run. wanted: one of CHOICES. before: what made the results that stand, '' if none do.

    ``auto`` stays with what made the results that stand, where the model allows it, so that machines that take turns
    at a folder do not undo each other's. Else it is bfloat16 where the model's description says that its scores hold
    in it and this processor has matrix units for it.
    """
    if wanted != AUTO:
        return Precision(wanted)
    sound = {Precision.FLOAT32.value, *bundle.precisions}
    if before in sound:
        return Precision(before)
    fast = _MATRIX_UNIT in cpu_flags(cpuinfo)
    return Precision.BFLOAT16 if fast and Precision.BFLOAT16.value in sound else Precision.FLOAT32


def vector_units(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """Those of this processor that decide how the network is computed."""
    flags = cpu_flags(cpuinfo)
    return tuple(unit for unit in _VECTOR_UNITS if unit in flags)


def cpu_flags(cpuinfo: Path) -> frozenset[str]:
    """What this processor says that it can do; nothing where the system does not tell (other than Linux)."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())
