"""A tensor's own grid: codes go out and in to the bit, and what they stand for is what is read."""

from __future__ import annotations

import numpy as np
import pytest

from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.grids import FINER, LAYOUTS, Grid, grid_of, refined
from studio.formats.quantise import Bytes, quantise


def stored_in(type_name: str) -> Bytes:
    rows = np.random.default_rng(1).standard_normal((5, 512), np.float32)
    rows[2] = 0  # blocks without a step
    return quantise(rows, type_name)


def codes_of(stored: Bytes, type_name: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    blocks = stored.reshape(-1, GGML_TYPES_BY_NAME[type_name].block_bytes)
    codes: np.ndarray[tuple[int, int], np.dtype[np.float32]] = (
        LAYOUTS[type_name].read(blocks).reshape(5, 512).astype(np.float32)
    )
    return codes


def read(stored: Bytes, type_name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return dequantise(stored, GGML_TYPES_BY_NAME[type_name].number)


@pytest.mark.parametrize("type_name", LAYOUTS)
def test_a_grid_gives_the_values_that_are_stored(type_name: str) -> None:
    stored = stored_in(type_name)
    grid = grid_of(stored, type_name)
    codes = codes_of(stored, type_name)
    assert codes.max() <= grid.highest
    np.testing.assert_allclose(grid.values(codes), read(stored, type_name), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(grid.encode(codes), stored)


@pytest.mark.parametrize("type_name", LAYOUTS)
def test_other_codes_are_read_where_the_grid_says(type_name: str) -> None:
    grid: Grid = grid_of(stored_in(type_name), type_name)
    codes = np.random.default_rng(2).integers(0, grid.highest + 1, (5, 512)).astype(np.float32)
    stored = grid.encode(codes)
    np.testing.assert_array_equal(codes_of(stored, type_name), codes)
    np.testing.assert_allclose(read(stored, type_name), grid.values(codes), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("type_name", FINER)
def test_a_finer_grid_holds_the_old_values_and_those_between(type_name: str) -> None:
    stored = stored_in(type_name)
    finer = refined(stored, type_name)
    assert finer is not None
    name, moved = finer
    np.testing.assert_array_equal(read(moved, name), read(stored, type_name))
    np.testing.assert_allclose(grid_of(moved, name).step, grid_of(stored, type_name).step / 2, rtol=1e-6)


def test_a_scale_that_cannot_be_halved_has_no_finer_grid() -> None:
    stored = stored_in("Q4_0")
    stored[0, :2] = np.array([np.float16(6e-8)]).view(np.uint8)  # the smallest there is
    assert refined(stored, "Q4_0") is None


def test_a_type_without_a_finer_one_stays() -> None:
    assert refined(stored_in("Q8_0"), "Q8_0") is None
