"""What is computed together: on the CPU as much as a cache holds, on a device as much as keeps it busy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from studio.engine.compiled_numpy import is_host

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE_BYTES = 1 << 19
"""What one operand of a block takes at most on the CPU: several of them fit a core's cache."""

DEVICE_BYTES = 1 << 26
"""The same on a device, where every block costs launches."""


def blocks(xp: Any, count: int, each: int, least: int = 1) -> Iterator[slice]:
    """Yield runs of rows, one after the other.

    Parameters
    ----------
    xp
        The array module.
    count
        How many rows there are.
    each
        Bytes of a row of the largest operand.
    least
        How many rows a block has at least, but for the last.
    """
    room = CACHE_BYTES if is_host(xp) else DEVICE_BYTES
    at_once = max(least, room // each)
    for first in range(0, count, at_once):
        yield slice(first, min(first + at_once, count))
