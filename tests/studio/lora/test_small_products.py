"""Products that stay on their thread: equal to float64, whatever the shape."""

from __future__ import annotations

import numpy as np
import pytest

from studio.lora.small_products import inner, product


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 7), (100, 32, 576), (33, 64, 1537), (20, 30_000, 50)])
def test_they_are_products(shape: tuple[int, int, int]) -> None:
    rows, between, columns = shape
    rng = np.random.default_rng(0)
    left = rng.standard_normal((rows, between), np.float32)
    right = rng.standard_normal((between, columns), np.float32)
    exact = left.astype(np.float64) @ right
    assert np.linalg.norm(product(left, right) - exact) < 1e-5 * np.linalg.norm(exact)


def test_inner_products_are_summed_in_float64() -> None:
    ones = np.ones((1 << 13, 1 << 12), np.float32)
    ones[0, 0] = 2
    assert inner(ones, ones) == ones.size + 3
