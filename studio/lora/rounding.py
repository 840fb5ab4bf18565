"""Rounding of merged weights to the codes of a grid: to the nearest, unbiased, and with compensated errors.

A base lies on its grid, and most of a delta's elements are a few hundredths of a step: the nearest code is
the old one, and the delta is gone. Rounding up with the probability of the fraction keeps it on average, as
noise that does not add up over the layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.contracts import never
from studio.errors import CancelledError
from studio.lora.small_products import inner, product

if TYPE_CHECKING:
    from studio.contracts import Cancelled, FloatArray
    from studio.formats.grids import Grid

DAMPING = 0.01
"""What is added to the diagonal of a second moment, as a share of its mean."""

GAIN_STEPS = 7
"""How often a gain is tried at most; where a delta is not tiny, three times are enough."""

KEPT_TOLERANCE = 0.05
"""How near to all of a delta is near enough."""

GAIN_LIMITS = (0.5, 8.0)
"""How soft or loud a delta is made at most."""

BLOCK = 64
"""How many columns are rounded one by one before their errors reach the others in one product."""


@dataclass(frozen=True)
class Feedback:
    """How the error of each column is made up for in later ones.

    Attributes
    ----------
    order
        Which column is rounded when, ``[in]``.
    weights
        float32 ``[in, in]``, strictly upper: how much of the error of column i, in that order, is added to
        column j.
    """

    order: np.ndarray[Any, np.dtype[np.intp]]
    weights: FloatArray


def feedback(second_moment: FloatArray, damping: float = DAMPING) -> Feedback:
    """Find the feedback that makes the outputs' error the least, for inputs with this second moment.

    Chee et al. 2023, https://arxiv.org/abs/2307.13304, section 3 (LDLQ), which equals OPTQ, Frantar et al.
    2022, https://arxiv.org/abs/2210.17323. Columns with large inputs come first.

    Parameters
    ----------
    second_moment
        The mean of x x^T over inputs x, ``[in, in]``.
    damping
        Share of the mean of the diagonal that is added to it.
    """
    diagonal = np.diag(second_moment).astype(np.float64)
    order = np.argsort(-diagonal, kind="stable")
    moment = second_moment[np.ix_(order, order)].astype(np.float64)
    moment[np.diag_indices_from(moment)] += max(damping * diagonal.mean(), np.finfo(np.float32).tiny)
    upper = np.linalg.cholesky(moment[::-1, ::-1])[::-1, ::-1]  # H = R R^T with R upper
    weights = np.triu(upper / np.diag(upper), k=1)
    return Feedback(order, np.ascontiguousarray(weights, np.float32))


def nearest_codes(target: FloatArray, grid: Grid) -> FloatArray:
    """Round to the nearest code: ``[rows, width]`` to whole numbers of the same shape."""
    return _clipped(np.rint(_positions(target, grid.offset, grid.step)), grid)


def unbiased_codes(target: FloatArray, grid: Grid, random: np.random.Generator) -> FloatArray:
    """Round up with the probability of the fraction, so that the mean over seeds is the target itself."""
    positions = _positions(target, grid.offset, grid.step)
    positions += random.random(target.shape, np.float32)
    return _clipped(np.floor(positions, out=positions), grid)


def compensated_codes(
    target: FloatArray,
    grid: Grid,
    feedback: Feedback,
    cancelled: Cancelled = never,
) -> FloatArray:
    """Round column by column to the nearest, and add each column's error to those that come after it.

    Parameters
    ----------
    target
        float32 ``[rows, width]``.
    grid
        The grid of these rows.
    feedback
        How errors are made up for.
    cancelled
        Asked once a block of columns; then `CancelledError` is raised.
    """
    order = feedback.order
    wanted = np.ascontiguousarray(target.T[order])  # [in, rows]
    offset = np.ascontiguousarray(grid.offset.T[order])
    step = np.ascontiguousarray(grid.step.T[order])
    made_up = np.zeros_like(wanted)  # what earlier errors add to each column
    codes = np.empty_like(wanted)
    for first in range(0, len(wanted), BLOCK):
        if cancelled():
            raise CancelledError
        last = min(first + BLOCK, len(wanted))
        errors = np.empty_like(wanted[first:last])
        for row in range(first, last):
            code = _positions(wanted[row] + made_up[row], offset[row], step[row])
            np.clip(np.rint(code, out=code), 0, grid.highest, out=codes[row])
            error = errors[row - first]
            np.subtract(wanted[row], offset[row] + step[row] * codes[row], out=error)
            made_up[row + 1 : last] += np.multiply.outer(feedback.weights[row, row + 1 : last], error)
        made_up[last:] += product(feedback.weights[first:last, last:].T, errors)
    result = np.empty_like(target)
    result.T[order] = codes
    return result


def find_gain(
    base: FloatArray,
    delta: FloatArray,
    grid: Grid,
    moment: FloatArray,
    feedback: Feedback,
    cancelled: Cancelled = never,
) -> tuple[float, FloatArray]:
    """Find by what to multiply a delta so that, rounded by `compensated_codes`, all of it is kept.

    Rounding to the nearest loses the elements of a delta that no error of an earlier column lifts over half a
    step. What is lost is the same in all layers and adds up, so the whole is made louder by as much: then
    the outputs have the delta at the size that is wanted.

    Parameters
    ----------
    base, delta
        Some rows of the base and what is to be added to them, float32 ``[rows, in]``.
    grid
        The grid of these rows.
    moment
        The second moment of the inputs, ``[in, in]``.
    feedback
        Made of it.
    cancelled
        As for `compensated_codes`.

    Returns
    -------
    tuple
        The gain, and the rows as they are rounded with it.
    """
    wanted = product(delta, moment)  # [rows, in] @ [in, in]
    power = inner(wanted, delta)
    gain, low, high = 1.0, (GAIN_LIMITS[0], 0.0), (GAIN_LIMITS[1], math.inf)  # gains, and what they keep
    for _ in range(GAIN_STEPS):
        louder = base + np.float32(gain) * delta
        values = grid.values(compensated_codes(louder, grid, feedback, cancelled))
        kept = inner(wanted, values - base) / power if power > 0 else 1.0
        if abs(kept - 1) < KEPT_TOLERANCE:
            break
        low, high = ((gain, kept), high) if kept < 1 else (low, (gain, kept))
        gain = _between(low, high, guess=gain / max(kept, 0.1))
    return gain, values


def _between(low: tuple[float, float], high: tuple[float, float], guess: float) -> float:
    """Return a gain between one that keeps too little and one that keeps too much.

    It is the guess until both are known. What is kept jumps where a delta passes half a step, so from then on
    it is no closer to either than a quarter of the way.
    """
    if low[1] == 0 or math.isinf(high[1]):
        return float(np.clip(guess, low[0], high[0]))
    share = (1 - low[1]) / (high[1] - low[1])
    return float(low[0] * (high[0] / low[0]) ** np.clip(share, 0.25, 0.75))


def _positions(target: FloatArray, offset: FloatArray, step: FloatArray) -> FloatArray:
    """Return where values lie on a grid, in steps from code 0; a block without a step has code 0 alone."""
    flat = step == 0
    positions: FloatArray = target - offset
    np.divide(positions, step, out=positions, where=~flat)
    positions[flat] = 0
    return positions


def _clipped(codes: FloatArray, grid: Grid) -> FloatArray:
    return np.clip(codes, 0, grid.highest, out=codes)
