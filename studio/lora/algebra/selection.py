"""The k-th largest of more numbers than are held at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from studio.lora.algebra.singular import Doubles

SHIFT = 47
"""Leaves the highest 16 bits of a float64 that is not negative: those that agree differ by 3 % at most."""


def kth_largest(blocks: Callable[[], Iterable[Doubles]], k: int) -> float:
    """Return the k-th largest of some numbers that are at least 0, exactly; infinity for k = 0.

    Such numbers are in the order of their bits. A first pass counts them by their highest bits, a second one
    sorts those alone that share the bits of the one sought.

    Parameters
    ----------
    blocks
        Gives the numbers block by block, the same ones at each call.
    k
        Counted from 1; no more than there are numbers.
    """
    if k == 0:
        return float("inf")
    counts = np.zeros(1 << (63 - SHIFT), np.int64)
    for block in blocks():
        counts += np.bincount(_high_bits(block), minlength=len(counts))
    at_least = np.cumsum(counts[::-1])  # how many have these highest bits or higher ones
    place = int(np.searchsorted(at_least, k))
    sought = len(counts) - 1 - place
    alike = np.concatenate([block.reshape(-1)[_high_bits(block) == sought] for block in blocks()])
    rank = k - (int(at_least[place - 1]) if place else 0)
    return float(np.partition(alike, len(alike) - rank)[len(alike) - rank])


def _high_bits(block: Doubles) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    # Adding 0 makes a negative zero positive.
    return (np.ascontiguousarray(block) + 0.0).reshape(-1).view(np.int64) >> SHIFT
