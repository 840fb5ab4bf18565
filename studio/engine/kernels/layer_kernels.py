"""The compiled operators of a layer, and the ways back through them, on the calling thread.

Each takes addresses of contiguous float32, and does in one or two passes over memory what NumPy does in ten.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from studio.engine.kernels import vectors as v
from studio.engine.kernels.compilation import compiled, kernel
from studio.engine.kernels.exponential import exponential

ZERO, ONE, STEEPEST = np.float32(0), np.float32(1), np.float32(80)


LOWEST = np.float32(-80)
"""Of what lies so far below the highest score nothing is left: subnormal numbers are slow."""


def _signature(addresses: int, *others: Any) -> Any:
    return types.void(*[types.int64] * addresses, *others)


@kernel
def _opening(x: Any) -> Any:
    """Compute 1 / (1 + e^-x); e^80 is within float32."""
    power = exponential(v.smaller(v.multiply(x, v.splat(-ONE)), v.splat(STEEPEST)))
    return v.divide(v.splat(ONE), v.add(power, v.splat(ONE)))


@compiled(_signature(4))
def swiglu(gate: int, up: int, out: int, count: int) -> None:
    """Compute silu(gate) * up."""
    for first in range(0, count, 16):
        left, at = count - first, 4 * first
        x = v.floats_up_to(gate + at, left)
        activated = v.multiply(x, _opening(x))
        v.put_floats_up_to(out + at, v.multiply(activated, v.floats_up_to(up + at, left)), left)


@compiled(_signature(6))
def swiglu_back(gradient: int, gate: int, up: int, of_gate: int, of_up: int, count: int) -> None:
    """Multiply by s + x s (1 - s), the slope of silu, with s = sigmoid(x)."""
    for first in range(0, count, 16):
        left, at = count - first, 4 * first
        x, coming = v.floats_up_to(gate + at, left), v.floats_up_to(gradient + at, left)
        opening = _opening(x)
        activated = v.multiply(x, opening)
        v.put_floats_up_to(of_up + at, v.multiply(coming, activated), left)
        shut = v.multiply_add(opening, v.splat(-ONE), v.splat(ONE))
        slope = v.multiply_add(activated, shut, opening)
        through = v.multiply(coming, v.floats_up_to(up + at, left))
        v.put_floats_up_to(of_gate + at, v.multiply(through, slope), left)


@kernel
def _scale(squares: Any, rows: int, epsilon: float) -> Any:
    """Return 1 / root mean square; NaN where the squares overflow, which would come out finite."""
    mean = v.multiply(squares, v.splat(np.float32(1 / rows)))
    scale = v.divide(v.splat(ONE), v.root(v.add(mean, v.splat(np.float32(epsilon)))))
    return v.multiply_add(squares, v.splat(ZERO), scale)


@compiled(_signature(5, types.float64))
def rms_norm(x: int, weight: int, out: int, rows: int, columns: int, epsilon: float) -> None:
    """Scale columns to a root mean square of 1, and rows by their weights."""
    for first in range(0, columns, 16):
        left, at = columns - first, x + 4 * first
        squares = v.splat(ZERO)
        for row in range(rows):
            value = v.floats_up_to(at + 4 * row * columns, left)
            squares = v.multiply_add(value, value, squares)
        scale = _scale(squares, rows, epsilon)
        for row in range(rows):
            place = 4 * (row * columns + first)
            value = v.multiply(v.floats_up_to(x + place, left), scale)
            v.put_floats_up_to(out + place, v.multiply(value, v.splat_float_at(weight + 4 * row)), left)


@compiled(_signature(6, types.float64))
def rms_norm_back(
    gradient: int, x: int, weight: int, out: int, rows: int, columns: int, epsilon: float
) -> None:
    """Compute (w g - n mean(n w g)) / r, where n = x / r is the normed column and r its root mean square."""
    for first in range(0, columns, 16):
        left = columns - first
        squares, products = v.splat(ZERO), v.splat(ZERO)
        for row in range(rows):
            place = 4 * (row * columns + first)
            value = v.floats_up_to(x + place, left)
            squares = v.multiply_add(value, value, squares)
            weighted = v.multiply(v.floats_up_to(gradient + place, left), v.splat_float_at(weight + 4 * row))
            products = v.multiply_add(value, weighted, products)
        scale = _scale(squares, rows, epsilon)
        mean = v.multiply(v.multiply(products, scale), v.splat(np.float32(-1 / rows)))
        for row in range(rows):
            place = 4 * (row * columns + first)
            normed = v.multiply(v.floats_up_to(x + place, left), scale)
            weighted = v.multiply(v.floats_up_to(gradient + place, left), v.splat_float_at(weight + 4 * row))
            v.put_floats_up_to(out + place, v.multiply(v.multiply_add(normed, mean, weighted), scale), left)


@compiled(_signature(10, types.float32))
def rotate(
    x: int, cosines: int, sines: int, out: int,
    heads: int, size: int, blends: int, length: int, angles: int, apart: int, sign: float,
) -> None:  # fmt: skip
    """Turn pairs of rows, `apart` from each other, by their angles times a sign; copy the other rows.

    x and out are ``[heads, size, blends, length]``, cosines and sines ``[angles, length]``.
    """
    row = 4 * blends * length
    step = 2 if apart == 1 else 1
    for head in range(heads):
        base = head * size * row
        for angle in range(angles):
            first_row = base + angle * step * row
            second_row = first_row + apart * row
            for blend in range(blends):
                for first in range(0, length, 16):
                    left, at = length - first, 4 * (blend * length + first)
                    turn = 4 * (angle * length + first)
                    cosine = v.floats_up_to(cosines + turn, left)
                    sine = v.multiply(v.floats_up_to(sines + turn, left), v.splat(sign))
                    one = v.floats_up_to(x + first_row + at, left)
                    two = v.floats_up_to(x + second_row + at, left)
                    back = v.multiply(v.multiply(two, sine), v.splat(-ONE))
                    v.put_floats_up_to(out + first_row + at, v.multiply_add(one, cosine, back), left)
                    turned = v.multiply_add(two, cosine, v.multiply(one, sine))
                    v.put_floats_up_to(out + second_row + at, turned, left)
        start, end = base + 2 * angles * row, base + size * row
        for at in range(start, end, 64):
            left = (end - at) // 4
            v.put_floats_up_to(out + at, v.floats_up_to(x + at, left), left)


@compiled(_signature(6))
def softmax(scores: int, mask: int, mask_row: int, queries: int, rows: int, columns: int) -> None:
    """Turn rows of scores into probabilities, in place; a row with infinities or NaN becomes NaN.

    mask is 0 for none, or the address of what is added to row r at its row r modulo `queries`.
    """
    for row in range(rows):
        base, hidden = scores + 4 * row * columns, mask + (row % queries) * mask_row
        highest, probe = v.splat(np.float32(-3e38)), v.splat(ZERO)
        for first in range(0, columns, 16):
            left, at = columns - first, base + 4 * first
            score = v.floats_up_to(at, left)
            probe = v.multiply_add(score, v.splat(ZERO), probe)
            if mask:
                score = v.add(score, v.floats_up_to(hidden + 4 * first, left))
                v.put_floats_up_to(at, score, left)
            if left < 16:
                for lane in range(left):
                    highest = v.larger(highest, v.splat_float_at(at + 4 * lane))
            else:
                highest = v.larger(highest, score)
        most = v.splat(-v.largest(highest) + v.total(probe))
        sums = v.splat(ZERO)
        for first in range(0, columns, 16):
            left, at = columns - first, base + 4 * first
            power = v.add(v.floats_up_to(at, left), most)
            weight = v.where_larger(power, v.splat(LOWEST), exponential(power))
            v.put_floats_up_to(at, weight, left)
            sums = v.add(sums, v.floats_up_to(at, left))
        # A sum is NaN where the probe is; the exponential hides it.
        share = v.splat(ONE / v.total(sums) + v.total(probe))
        for first in range(0, columns, 16):
            left, at = columns - first, base + 4 * first
            v.put_floats_up_to(at, v.multiply(v.floats_up_to(at, left), share), left)


@compiled(_signature(4))
def softmax_back(gradient: int, likely: int, rows: int, columns: int) -> None:
    """Turn the gradient of probabilities P into that of scores, P (g - sum(g P)), in place."""
    for row in range(rows):
        base, its = gradient + 4 * row * columns, likely + 4 * row * columns
        sums = v.splat(ZERO)
        for first in range(0, columns, 16):
            left = columns - first
            coming = v.floats_up_to(base + 4 * first, left)
            sums = v.multiply_add(coming, v.floats_up_to(its + 4 * first, left), sums)
        mean = v.splat(-v.total(sums))
        for first in range(0, columns, 16):
            left, at = columns - first, base + 4 * first
            through = v.add(v.floats_up_to(at, left), mean)
            v.put_floats_up_to(at, v.multiply(through, v.floats_up_to(its + 4 * first, left)), left)
