"""A part of the examples kept back, to measure on what was not learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.errors import StudioError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import Example


def hold_out(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Split examples into those to learn from and those to measure on, each in their order.

    Parameters
    ----------
    examples
        Two or more, unless the share is 0.
    share
        Which part is kept back, at least 0 and less than 1; both sides get one example or more.
    seed
        Seed of the choice.

    Raises
    ------
    StudioError
        The share is out of range, or there is only one example.
    """
    if not 0 <= share < 1:
        raise StudioError(
            f"a share of {share} cannot be kept back", remedy="Take one from 0 up to, not including, 1"
        )
    if not share:
        return tuple(examples), ()
    if len(examples) < 2:
        raise StudioError(
            "one example cannot be split into some to learn from and some to measure on",
            remedy="Give more data, shorter examples, or a validation file",
        )
    count = min(max(1, round(share * len(examples))), len(examples) - 1)
    kept = set(np.random.default_rng(seed).permutation(len(examples))[:count].tolist())
    return (
        tuple(example for index, example in enumerate(examples) if index not in kept),
        tuple(example for index, example in enumerate(examples) if index in kept),
    )
