"""Keeps Python's garbage collections short while long work runs beside the desk.

A full collection looks at every object there is, and nothing else of Python runs meanwhile: 90 ms on the
desk, in which it stands still. Work of many small steps brings one about every few seconds.
"""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_inside = 0


@contextmanager
def short_collections() -> Iterator[None]:
    """Leave objects that are there already out of collections; the last to leave puts them back."""
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            gc.freeze()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                gc.unfreeze()
