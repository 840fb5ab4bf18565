"""What this CPU, and its system, offer to the kernels."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

from llvmlite import binding

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
"""Linux, Documentation/arch/x86/xstate.rst: a process asks for the registers of tiles before it uses them."""


def has(feature: str) -> bool:
    """Say whether the CPU has a feature, by LLVM's name."""
    return bool(binding.get_host_cpu_features().get(feature))


@cache
def has_matrix_unit() -> bool:
    """Say whether this process may multiply tiles of bfloat16 (AMX)."""
    if not (sys.platform == "linux" and has("amx-bf16") and has("avx512f")):
        return False
    return int(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)) == 0
