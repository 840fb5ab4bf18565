"""Imports and compiles the kernels, once."""

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studio.engine.kernels.walkers import Walkers

_lock = threading.Lock()


def shared_walkers() -> Walkers:
    """Return the threads that run kernels, the same for all; the first call takes seconds.

    Raises
    ------
    ImportError
        Where Numba cannot be imported, and on Windows, whose system lacks the calls by which threads give
        way.
    """
    if sys.platform == "win32":
        raise ImportError("the kernels do not run on Windows yet")
    with _lock:
        return _walkers()


@cache
def _walkers() -> Walkers:
    from studio.engine.kernels.walkers import Walkers

    return Walkers()
