"""In which order examples are learnt: every epoch has one of its own, which follows from the seed alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class Order:
    """Examples drawn epoch after epoch; a step may end one epoch and begin the next.

    Nothing of it has to be kept: what a step learns follows from its number.

    Parameters
    ----------
    count
        How many examples there are.
    per_step
        How many a step takes.
    seed
        Of the shuffling; None keeps the examples in their order.
    """

    def __init__(self, count: int, per_step: int, seed: int | None) -> None:
        self.count = count
        self.per_step = per_step
        self._seed = seed
        self._epochs: dict[int, Sequence[int]] = {}

    def steps(self, epochs: float) -> int:
        """Return how many steps it takes to see every example so often."""
        return max(1, math.ceil(epochs * self.count / self.per_step))

    def of_step(self, step: int) -> list[int]:
        """Return the numbers of the examples of a step, from 0 on."""
        first = step * self.per_step
        self._epochs = {epoch: order for epoch, order in self._epochs.items() if epoch >= first // self.count}
        places = (divmod(place, self.count) for place in range(first, first + self.per_step))
        return [self._epoch(epoch)[place] for epoch, place in places]

    def _epoch(self, epoch: int) -> Sequence[int]:
        if epoch not in self._epochs:
            order = np.arange(self.count)
            if self._seed is not None:
                order = np.random.default_rng([self._seed, epoch]).permutation(self.count)
            self._epochs[epoch] = order.tolist()
        return self._epochs[epoch]
