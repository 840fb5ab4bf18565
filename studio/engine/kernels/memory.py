"""Memory that begins where a cache line does: a vector that lies across two is read twice."""

from __future__ import annotations

from typing import Any

import numpy as np

LINE = 64
"""Bytes of a cache line."""


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Return zeros that begin on a cache line."""
    kind = np.dtype(dtype)
    count = int(np.prod(shape)) * kind.itemsize
    room = np.zeros(count + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    view: np.ndarray[Any, Any] = room[start : start + count].view(kind).reshape(shape)
    return view
