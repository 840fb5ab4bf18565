"""Gives the compiler's own memory back once the kernels are there."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

MAPS = Path("/proc/self/maps")

LIBRARY = "libllvmlite"

_PAGE_OUT = 21
"""madvise(2), MADV_PAGEOUT: what is wanted again comes back, and what a file holds is read from there."""


def give_compiler_back() -> int:
    """Let go of the compiler's code, some 70 MB that loading a kernel leaves in memory; return its bytes.

    It is only asked for on Linux; elsewhere, and where the system refuses, nothing happens.
    """
    if sys.platform != "linux":
        return 0
    libc, given = ctypes.CDLL(None), 0
    for line in MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        span, permissions, *_ = line.split()
        if LIBRARY in line and "w" not in permissions:
            start, end = (int(address, 16) for address in span.split("-"))
            if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _PAGE_OUT) == 0:
                given += end - start
    return given
