"""How much memory the machine has to give."""

from __future__ import annotations

from pathlib import Path

MEMORY_INFORMATION = Path("/proc/meminfo")


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
