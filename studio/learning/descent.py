"""Minimising a smooth function plus a weighted L1 norm within bounds, by its gradients: few parameters."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from studio.learning.blend_parameters import Vector

MEMORY = 8
"""From how many steps the curvature is guessed."""

FIRST_MOVE = 0.25
"""How far the first step goes along the steepest parameter: nothing is known of the curvature yet."""

SUFFICIENT = 1e-4
"""Which part of the promised decrease a step must bring (Armijo's condition)."""

CUTS = 8
"""How often a step is shortened before the search gives up."""


class Slope(NamedTuple):
    """A function's value at a point, and its gradient there."""

    value: float
    gradient: Vector


def descend(
    start: Vector, low: Vector, high: Vector, penalty: Vector, *, tolerance: float = 1e-7
) -> Generator[Vector, Slope, Vector]:
    """Minimise f(x) + sum_i penalty_i |x_i| over low <= x <= high; return the best point found.

    Yields each point where f is wanted, and is sent its `Slope` there. L-BFGS (Nocedal 1980,
    https://doi.org/10.1090/S0025-5718-1980-0572855-7) over the parameters that no bound holds back, each
    step projected onto the bounds (Bertsekas 1982, https://doi.org/10.1137/0320018), and onto the orthant it
    set out in, where the L1 norm is linear (Andrew & Gao 2007, OWL-QN, https://doi.org/10.1145/1273496.1273501).

    Parameters
    ----------
    start
        ``[P]``; brought within the bounds.
    low, high
        ``[P]``.
    penalty
        ``[P]``, not below 0.
    tolerance
        It ends where the next step promises less than this.
    """
    point = np.clip(start, low, high)
    value, gradient = yield point
    total = value + float(penalty @ np.abs(point))
    steps: deque[tuple[Vector, Vector]] = deque(maxlen=MEMORY)  # (change of x, change of the gradient)
    while True:
        slope = _steepest(point, gradient, low, high, penalty)
        direction = -_with_curvature(slope, steps)
        direction[(penalty > 0) & (direction * slope > 0)] = 0  # the L1 norm has no curvature to lean on
        if not steps and slope.any():
            direction *= min(1.0, FIRST_MOVE / np.abs(slope).max())
        if -float(slope @ direction) / 2 < tolerance:
            return point
        side = np.where(point == 0, -np.sign(slope), np.sign(point))
        for cut in range(CUTS):
            moved = np.clip(point + 0.5**cut * direction, low, high)
            moved[(penalty > 0) & (moved * side < 0)] = 0
            found = yield moved
            new = found.value + float(penalty @ np.abs(moved))
            if new <= total + SUFFICIENT * min(0.0, float(slope @ (moved - point))):
                break
        else:
            if not steps:
                return point
            steps.clear()  # a wrong guess of the curvature: once more straight down the slope
            continue
        steps.append((moved - point, found.gradient - gradient))
        point, gradient, total = moved, found.gradient, new


def _steepest(point: Vector, gradient: Vector, low: Vector, high: Vector, penalty: Vector) -> Vector:
    """Return the slope along which the sum falls fastest; 0 where a bound or the kink at 0 holds it."""
    slope = gradient + penalty * np.sign(point)
    shrunk = np.sign(gradient) * np.maximum(np.abs(gradient) - penalty, 0)
    slope = np.where(point == 0, shrunk, slope)
    held = ((point <= low) & (slope > 0)) | ((point >= high) & (slope < 0))
    return np.where(held, 0.0, slope)


def _with_curvature(slope: Vector, steps: Iterable[tuple[Vector, Vector]]) -> Vector:
    """Multiply by the inverse Hessian as L-BFGS guesses it, over the parameters that have a slope."""
    free = slope != 0
    pairs = [(moved * free, change * free) for moved, change in steps]
    pairs = [(moved, change) for moved, change in pairs if moved @ change > 1e-10 * (change @ change)]
    found = slope.copy()
    shares = []
    for moved, change in reversed(pairs):
        share = (moved @ found) / (moved @ change)
        shares.append(share)
        found -= share * change
    if pairs:
        moved, change = pairs[-1]
        found *= (moved @ change) / (change @ change)
    for (moved, change), share in zip(pairs, reversed(shares), strict=True):
        found += (share - (change @ found) / (moved @ change)) * moved
    return found
