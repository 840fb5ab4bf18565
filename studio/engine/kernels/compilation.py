"""How kernels are compiled, and where what was compiled is kept for the next start.

Numba looks for changes in the file of a cached function alone, not in those that it calls into; so the cache
lies in a folder named by the source of all kernels. Where that cannot be written nothing is kept: Numba would
fall back to a folder beside the source, and find stale kernels there.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from numba import config, njit

from studio.engine.kernels.instructions import FAST

if TYPE_CHECKING:
    from collections.abc import Callable


def _digest() -> str:
    """Return a name for the kernels' source."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def _writable(folder: Path) -> bool:
    """Say whether files can be made in a folder, which is made first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


FOLDER = platformdirs.user_cache_path("lora-studio") / "kernels" / _digest()
KEPT = _writable(FOLDER)
config.CACHE_DIR = str(FOLDER)

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
    decorate: Callable[[Any], Any] = njit(signature, cache=KEPT, **OPTIONS)
    return decorate
