"""How much memory the machine has to give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studio.engine.backend import Backend

MEMORY_INFORMATION = Path("/proc/meminfo")

SPARE_SHARE = 1 / 8
"""Which part of the free memory may be spent on saving time."""

ASSUMED_FREE = 2 << 30
"""How many bytes are taken to be free where nothing tells."""


def available_memory() -> int | None:
    """Return how many bytes can be taken without swapping; None where the system does not tell."""
    try:
        lines = MEMORY_INFORMATION.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return 1024 * int(value.split()[0])
    return None


def spare_memory(backend: Backend) -> int:
    """Return how many bytes may hold what is only there to save time: a share of what the device has free."""
    free = backend.available_memory()
    return int(SPARE_SHARE * (ASSUMED_FREE if free is None else free))
