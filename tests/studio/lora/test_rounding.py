"""Rounding to a grid that the base lies on: nearest loses a small delta, the others keep it."""

from __future__ import annotations

import numpy as np
import pytest

from studio.contracts import FloatArray
from studio.errors import CancelledError
from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.grids import Grid, grid_of
from studio.formats.quantise import quantise
from studio.lora.kept_delta import Sums
from studio.lora.rounding import compensated_codes, feedback, find_gain, nearest_codes, unbiased_codes

ROWS, WIDTH = 96, 128


@pytest.fixture(scope="module")
def grid() -> Grid:
    rng = np.random.default_rng(0)
    return grid_of(quantise(rng.standard_normal((ROWS, WIDTH), np.float32), "Q4_1"), "Q4_1")


@pytest.fixture(scope="module")
def base(grid: Grid) -> FloatArray:
    """A base that lies on the grid, away from its ends."""
    codes = np.random.default_rng(1).integers(2, 14, (ROWS, WIDTH)).astype(np.float32)
    return grid.values(codes)


@pytest.fixture(scope="module")
def delta(grid: Grid) -> FloatArray:
    """A delta of rank 4, a few hundredths of a step large."""
    rng = np.random.default_rng(2)
    low_rank = rng.standard_normal((ROWS, 4), np.float32) @ rng.standard_normal((4, WIDTH), np.float32)
    small: FloatArray = low_rank * np.float32(0.015) * grid.step.mean()
    return small


@pytest.fixture(scope="module")
def moment() -> FloatArray:
    """Inputs that lie mostly in a few directions, as activations do."""
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((2000, 16)) @ rng.standard_normal((16, WIDTH))
    inputs += 0.5 * rng.standard_normal((2000, WIDTH))
    return np.asarray(inputs.T @ inputs / 2000, np.float32)


def test_the_nearest_code_is_the_bases_own(grid: Grid, base: FloatArray, delta: FloatArray) -> None:
    values = grid.values(nearest_codes(base + delta, grid))
    np.testing.assert_allclose(values, base, atol=1e-6)


def test_nearest_codes_are_those_of_nearest_values(grid: Grid) -> None:
    target = np.random.default_rng(4).standard_normal((ROWS, WIDTH), np.float32)
    found = np.abs(grid.values(nearest_codes(target, grid)) - target)
    every = np.abs(grid.offset[None] + grid.step[None] * np.arange(16)[:, None, None] - target)
    np.testing.assert_allclose(found, every.min(axis=0), atol=1e-6)


def test_unbiased_rounding_is_right_on_average(grid: Grid, base: FloatArray, delta: FloatArray) -> None:
    target = base + delta
    random = np.random.default_rng(5)
    total = np.zeros_like(target, np.float64)
    count = 400
    for _ in range(count):
        codes = unbiased_codes(target, grid, random)
        np.testing.assert_array_less(np.abs(grid.values(codes) - target), 1.001 * grid.step)
        total += grid.values(codes)
    spread = grid.step * np.sqrt(np.abs(delta) / grid.step / count)  # one flip in 1 / fraction
    assert np.mean(np.abs(total / count - target) < 5 * spread + 1e-6) > 0.999


def test_a_block_without_a_step_stays(grid: Grid) -> None:
    flat = grid_of(quantise(np.full((2, 64), 3, np.float32), "Q4_1"), "Q4_1")
    target = np.full((2, 64), 3.5, np.float32)
    for codes in (nearest_codes(target, flat), unbiased_codes(target, flat, np.random.default_rng(0))):
        np.testing.assert_array_equal(codes, 0)


def test_feedback_factorises_the_moment(moment: FloatArray) -> None:
    back = feedback(moment, damping=0.01)
    unit = back.weights.astype(np.float64) + np.eye(WIDTH)
    damped = moment[np.ix_(back.order, back.order)] + 0.01 * np.diag(moment).mean() * np.eye(WIDTH)
    middle = np.linalg.solve(unit, np.linalg.solve(unit, damped).T)  # of (U + I) D (U + I)^T
    assert np.linalg.norm(middle - np.diag(np.diag(middle))) < 1e-5 * np.linalg.norm(middle)


def test_feedback_rounds_like_the_rule_it_stands_for(grid: Grid, moment: FloatArray) -> None:
    """Column by column in float64, from the definition (LDLQ)."""
    target = np.random.default_rng(6).standard_normal((ROWS, WIDTH), np.float32)
    back = feedback(moment)
    rounded = np.zeros((ROWS, WIDTH))
    errors = np.zeros((ROWS, WIDTH))
    for place, column in enumerate(back.order):
        wanted = target[:, column] + errors[:, back.order] @ back.weights[:, place].astype(np.float64)
        codes = np.clip(np.rint((wanted - grid.offset[:, column]) / grid.step[:, column]), 0, 15)
        rounded[:, column] = codes
        errors[:, column] = target[:, column] - (grid.offset[:, column] + grid.step[:, column] * codes)
    found = compensated_codes(target, grid, back)
    assert np.mean(found == rounded) > 0.99  # a tie that falls the other way moves what comes after it


def test_feedback_makes_the_outputs_error_small(grid: Grid, moment: FloatArray) -> None:
    target = np.random.default_rng(7).standard_normal((ROWS, WIDTH), np.float32)

    def lost(codes: FloatArray) -> float:
        error = grid.values(codes) - target
        return float(np.einsum("ij,jk,ik->", error, moment, error, optimize=True))

    assert lost(compensated_codes(target, grid, feedback(moment))) < 0.5 * lost(nearest_codes(target, grid))


def test_a_gain_makes_up_for_what_the_nearest_codes_lose(
    grid: Grid, base: FloatArray, delta: FloatArray, moment: FloatArray
) -> None:
    back = feedback(moment)
    plain = grid.values(compensated_codes(base + delta, grid, back)) - base
    gain, values = find_gain(base, delta, grid, moment, back)
    unbiased = grid.values(unbiased_codes(base + delta, grid, np.random.default_rng(0))) - base
    before, after, random = (Sums.of(one, delta, moment) for one in (plain, values - base, unbiased))
    assert before.product < 0.9 * before.wanted
    assert gain > 1.1
    assert after.product == pytest.approx(after.wanted, rel=0.1)
    assert after.error < 0.5 * random.error


def test_no_delta_needs_no_gain(grid: Grid, base: FloatArray, moment: FloatArray) -> None:
    gain, values = find_gain(base, np.zeros_like(base), grid, moment, feedback(moment))
    assert gain == 1
    np.testing.assert_allclose(values, base, atol=1e-6)


def test_it_stops_when_it_is_cancelled(grid: Grid, base: FloatArray, moment: FloatArray) -> None:
    with pytest.raises(CancelledError):
        compensated_codes(base, grid, feedback(moment), cancelled=lambda: True)


def test_inputs_that_are_never_there_do_no_harm(grid: Grid, base: FloatArray, delta: FloatArray) -> None:
    silent = np.zeros((WIDTH, WIDTH), np.float32)
    values = grid.values(compensated_codes(base + delta, grid, feedback(silent)))
    assert np.isfinite(values).all()


def test_a_grid_is_what_the_reader_has(grid: Grid) -> None:
    codes = np.random.default_rng(8).integers(0, 16, (ROWS, WIDTH)).astype(np.float32)
    read = dequantise(grid.encode(codes), GGML_TYPES_BY_NAME["Q4_1"].number)
    np.testing.assert_allclose(read, grid.values(codes), rtol=1e-6)
