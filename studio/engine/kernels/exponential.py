"""The exponential of 16 lanes: two to a whole power, times a series for the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from studio.engine.kernels import vectors as v
from studio.engine.kernels.compilation import kernel

LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)


@kernel
def exponential(x: Any) -> Any:
    """Compute e^x to float32's precision for x up to 88; below -87 it stays at e^-87."""
    x = v.larger(x, v.splat(np.float32(-87)))
    exponent = v.whole(v.multiply(x, v.splat(LOG2_E)))
    rest = v.multiply_add(exponent, v.splat(-LN2_HIGH), x)
    rest = v.multiply_add(exponent, v.splat(-LN2_LOW), rest)
    series = v.splat(np.float32(1 / 5040))
    series = v.multiply_add(series, rest, v.splat(np.float32(1 / 720)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1 / 120)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1 / 24)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1 / 6)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1 / 2)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1)))
    return v.times_power_of_two(series, exponent)
