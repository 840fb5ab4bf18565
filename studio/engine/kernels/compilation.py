"""How kernels are compiled, and where what was compiled is kept for the next start.

Numba looks for changes in the file of a cached function alone, not in those that it calls into; so the cache
lies in a folder named by the source of all kernels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from numba import config, njit

from studio.engine.kernels.vectors import FAST

if TYPE_CHECKING:
    from collections.abc import Callable


def _digest() -> str:
    """Return a name for the kernels' source."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


config.CACHE_DIR = str(platformdirs.user_cache_path("lora-studio") / "kernels" / _digest())

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": set(FAST),
    "error_model": "numpy",
    "boundscheck": False,
}

kernel = njit(**OPTIONS)
"""Decorates a function that other kernels call."""


def compiled(signature: Any) -> Callable[[Any], Any]:
    """Decorate a function that Python calls: it is compiled when its module is imported."""
    decorate: Callable[[Any], Any] = njit(signature, cache=True, **OPTIONS)
    return decorate
