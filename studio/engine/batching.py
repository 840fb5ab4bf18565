"""Which sequences of different lengths run side by side, the shorter ones padded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PADDING = 32
"""By how many positions a sequence is padded at most.

A pass reads every weight whatever it computes, which takes about as long as so many columns of a product.
"""


def batches(lengths: Sequence[int], is_long: Callable[[int], bool]) -> list[list[int]]:
    """Sort sequences into batches by their lengths, and return the numbers of each batch's.

    Parameters
    ----------
    lengths
        Of the sequences.
    is_long
        Which lengths are turned as long ones (`Model.is_long`): they do not mix with the others.
    """
    found: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        longest = lengths[found[-1][0]] if found else 0
        length = lengths[number]
        if found and longest - length <= PADDING and is_long(longest) == is_long(length):
            found[-1].append(number)
        else:
            found.append([number])
    return found
