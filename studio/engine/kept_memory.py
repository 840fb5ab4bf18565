"""Keeps freed memory at hand for a while, where work asks for as much again at once.

glibc gives large pieces back to the system as soon as they are free. A step of training frees all that the
next one asks for, and taking it from the system again, page by page, costs a tenth of the step.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRIM_THRESHOLD, _MAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""

_KEEP = (1 << 30, 1 << 30)
_GIVE_BACK = (64 << 20, 32 << 20)
"""What both come to by themselves in a process that frees large pieces: mallopt(3), M_MMAP_THRESHOLD."""

_lock = threading.Lock()
_inside = 0


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory in this process; the last to leave gives it back. Without glibc it does nothing."""
    global _inside
    libc = _glibc()
    with _lock:
        _inside += 1
        if libc is not None and _inside == 1:
            _set(libc, _KEEP)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if libc is not None and _inside == 0:
                _set(libc, _GIVE_BACK)
                libc.malloc_trim(ctypes.c_size_t(0))


def _set(libc: Any, thresholds: tuple[int, int]) -> None:
    for parameter, value in zip((_TRIM_THRESHOLD, _MAP_THRESHOLD), thresholds, strict=True):
        libc.mallopt(parameter, value)


@cache
def _glibc() -> Any:
    """Return the C library, if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        return libc if all(hasattr(libc, name) for name in ("mallopt", "malloc_trim")) else None
    except (OSError, TypeError):  # another library, or Windows
        return None
