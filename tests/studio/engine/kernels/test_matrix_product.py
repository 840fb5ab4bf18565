"""The compiled product, with the CPU's matrix unit and without, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studio.engine.kernels.cpu import has, has_matrix_unit

if not has("avx512f"):
    pytest.skip("BLAS multiplies on this CPU", allow_module_level=True)

from studio.engine.kernels import matrix_product
from studio.engine.kernels.matrix_product import multiply

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(params=["vectors", "matrix unit"])
def random(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> np.random.Generator:
    """Multiply in one of the two ways, however small the matrices."""
    if request.param == "vectors":
        monkeypatch.setattr(matrix_product, "_multiply_in_tiles", lambda: None)
    elif not has_matrix_unit():
        pytest.skip("this CPU has no matrix unit")
    monkeypatch.setattr(matrix_product, "LEAST_SIDE", 1)
    monkeypatch.setattr(matrix_product, "LEAST_COLUMNS", 1)
    return np.random.default_rng()


def distance(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_any_shape_from_either_side_is_as_near_as_float32_can_be(random: np.random.Generator) -> None:
    for _ in range(60):
        rows, depth, count = (int(size) for size in random.integers(1, 260, 3))
        matrix = random.standard_normal((rows, depth), dtype=np.float32)
        columns = random.standard_normal((depth, count + 5), dtype=np.float32)[:, 2 : 2 + count]
        wanted = matrix.astype(np.float64) @ columns
        assert distance(multiply(matrix, columns), wanted) < 5e-7
        assert distance(multiply(np.ascontiguousarray(matrix.T).T, columns), wanted) < 5e-7
        assert distance(multiply(np.repeat(matrix, 2, axis=1)[:, ::2], columns), wanted) < 5e-7
        total = random.standard_normal((rows, count + 3), dtype=np.float32)
        before = total.astype(np.float64)
        assert multiply(matrix, columns, total[:, :count]) is not total
        assert distance(total[:, :count], before[:, :count] + wanted) < 5e-7
        np.testing.assert_array_equal(total[:, count:], before[:, count:])


def test_a_long_sum_is_taken_in_pieces(random: np.random.Generator) -> None:
    """As the gradient of a head is: many small terms after a large one, which would swallow them."""
    matrix = random.standard_normal((130, 50_000), dtype=np.float32)
    columns = np.full((50_000, 17), 1e-6, np.float32)
    columns[100] = -1
    wanted = matrix.astype(np.float64) @ columns
    assert distance(multiply(matrix, columns), wanted) < 3e-6
    assert distance(multiply(np.asfortranarray(matrix), columns), wanted) < 3e-6


def test_sizes_far_from_one_lose_nothing(random: np.random.Generator) -> None:
    for scale in (1e-30, 1e-12, 1e12, 1e30):
        matrix = random.standard_normal((64, 96), dtype=np.float32) * np.float32(scale)
        columns = random.standard_normal((96, 64), dtype=np.float32)
        columns *= np.exp(random.uniform(-8, 8, (96, 1))).astype(np.float32)
        wanted = matrix.astype(np.float64) @ columns
        assert distance(multiply(matrix, columns), wanted) < 5e-7


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_shows(random: np.random.Generator, value: float) -> None:
    for swap in (False, True):
        matrix = random.standard_normal((40, 50), dtype=np.float32)
        columns = random.standard_normal((50, 70), dtype=np.float32)
        (columns if swap else matrix)[7, 9] = value
        found = ~np.isfinite(multiply(matrix, columns))
        np.testing.assert_array_equal(found, ~np.isfinite(matrix @ columns))


def test_nothing_times_nothing_is_zero(random: np.random.Generator) -> None:
    empty = np.empty((3, 0), np.float32)
    np.testing.assert_array_equal(multiply(empty, np.empty((0, 4), np.float32)), np.zeros((3, 4)))
    assert multiply(np.empty((0, 3), np.float32), np.empty((3, 4), np.float32)).shape == (0, 4)
    total = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(multiply(empty, np.empty((0, 4), np.float32), total), np.ones((3, 4)))
