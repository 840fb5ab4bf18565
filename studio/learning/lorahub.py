"""Trying blends without gradients, as LoraHub does: nevergrad proposes, the loss decides."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.errors import StudioError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from studio.learning.blend_parameters import Vector

ONE_BY_ONE = "Shiwa"
"""The optimiser of Huang et al. 2023: for so few parameters it is COBYLA, which goes from blend to blend."""

SIDE_BY_SIDE = "TwoPointsDE"
"""Differential evolution: a whole generation can be measured in one sweep."""

WIDE = 3.0
"""Bounds as far apart as the paper's; between narrower ones the first steps are shorter."""


def try_points(
    start: Vector, low: Vector, high: Vector, *, budget: int, at_once: int, seed: int
) -> Generator[list[Vector], Sequence[float], None]:
    """Yield points to measure, the start first, and be sent their values; it never ends by itself.

    Huang et al. 2023, LoraHub, https://arxiv.org/abs/2307.13269.

    Parameters
    ----------
    start, low, high
        ``[P]``; the start is brought within the bounds.
    budget
        How many points will be measured: the optimiser plans for that.
    at_once
        How many points to yield at a time, but no more than the budget; above 1 another optimiser takes over
        that can use it.
    seed
        Of the optimiser's choices.

    Raises
    ------
    StudioError
        nevergrad is not installed.
    """
    nevergrad = _nevergrad()
    inside = np.clip(start, low, high)
    at_once = min(at_once, budget)
    width = float(np.min(high - low))
    sigma = 1.0 if width >= WIDE else width / 4  # nevergrad warns of steps that leave the bounds at once
    parameters = nevergrad.p.Array(init=inside).set_mutation(sigma=sigma).set_bounds(low, high)
    parameters.random_state = np.random.RandomState(seed)
    name = ONE_BY_ONE if at_once == 1 else SIDE_BY_SIDE
    optimiser = nevergrad.optimizers.registry[name](parameters, budget=budget, num_workers=at_once)
    yield [inside]
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # COBYLA warns of the budget that nevergrad sets it
            asked = [optimiser.ask() for _ in range(at_once)]
        values = yield [np.asarray(one.value, dtype=np.float64) for one in asked]
        for one, value in zip(asked, values, strict=False):  # the last sweep may be cut short
            optimiser.tell(one, value)


def _nevergrad() -> Any:
    try:
        import nevergrad
    except ImportError as error:
        raise StudioError(
            "searching without gradients takes the package nevergrad",
            where="lorahub",
            remedy="Install the extra: pip install 'lora-studio[nevergrad]'; or search by gradient",
        ) from error
    return nevergrad
