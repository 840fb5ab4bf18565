"""Every compiled step does what its twin in NumPy does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.extending import intrinsic

from studio.engine.kernels import vectors
from studio.engine.kernels.codes import LAYOUTS
from studio.engine.kernels.loading import shared_walkers
from studio.engine.kernels.memory import aligned
from studio.engine.kernels.panels import panel
from studio.engine.kernels.program import Operand, Program
from studio.engine.kernels.steps import exponential
from studio.engine.kernels.tiles import tile_dense, tile_raw
from studio.engine.operators import attention, rms_norm, rotate_pairs, swiglu

TYPES = [*LAYOUTS, "F16", "BF16", "F32"]
EXACT: Any = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def program() -> Program:
    return Program(shared_walkers())


def floats(random: np.random.Generator, *shape: int) -> Any:
    return random.standard_normal(shape, dtype=np.float32)


def operand(values: Any) -> Operand:
    made = Operand(values.size)
    made.values[0, : values.size] = values
    return made


@pytest.mark.parametrize("type_name", TYPES)
def test_products(
    type_name: str, stored_rows: Callable[..., Any], random: np.random.Generator, program: Program
) -> None:
    tiles = tile_raw(stored_rows(type_name), type_name, (40, 512))
    x = floats(random, 512) * np.exp(floats(random, 512))  # of uneven size
    shared, own, out = operand(x), Operand(512, shared_walkers().threads), aligned((48,), np.float32)
    program.fix(shared, own)
    program.product(tiles, own if tiles.kind.coded else shared, out)
    program.finish()
    program.run()
    size = np.abs(tiles.dense()).astype(np.float64) @ np.abs(x)
    difference = np.abs(out[:40] - tiles.dense().astype(np.float64) @ x)
    assert (difference / size).max() < 1e-6
    assert not out[40:].any()
    np.testing.assert_allclose(out[:40], tiles.multiply(x), rtol=1e-4, atol=1e-5 * size.max())


@pytest.mark.parametrize("type_name", TYPES)
def test_panels(type_name: str, stored_rows: Callable[..., Any]) -> None:
    tiles = tile_raw(stored_rows(type_name), type_name, (40, 512))
    np.testing.assert_allclose(panel(tiles, 0, 3), tiles.dense(), **EXACT)
    np.testing.assert_allclose(panel(tiles, 1, 2), tiles.dense()[16:32], **EXACT)


@pytest.mark.parametrize("type_name", TYPES)
def test_panels_end_where_they_should(
    type_name: str, stored_rows: Callable[..., Any], program: Program
) -> None:
    tiles = tile_raw(stored_rows(type_name), type_name, (40, 512))
    room = np.full((600, 64), 7, np.float32)
    program.spread(tiles, 0, 3, room[40:552])
    program.finish()
    program.run()
    assert (room[:40] == 7).all() and (room[552:] == 7).all() and (room[:, 48:] == 7).all()
    np.testing.assert_allclose(room[40:552, :40].T, tiles.dense(), **EXACT)


def test_a_product_scales_adds_a_bias_and_adds_up(random: np.random.Generator, program: Program) -> None:
    weight, x = floats(random, 32, 9), floats(random, 9)
    bias, scale, before = floats(random, 3, 32)
    out = before.copy()
    program.product(tile_dense(weight), operand(x), out, scale=scale, bias=bias, adds=True)
    program.finish()
    program.run()
    np.testing.assert_allclose(out, before + scale * (weight @ x) + bias, **EXACT)


def test_activations_become_24_bits(random: np.random.Generator, program: Program) -> None:
    x = floats(random, 64) * 1e3
    x[5] = -4e4
    x[32:] = 0
    shared, own = operand(x), Operand(64)
    program.fix(shared, own)
    program.finish()
    program.run()
    blocks = own.fixed.reshape(2, 112)
    digits = blocks[:, :96].view(np.int8).reshape(2, 3, 32).astype(np.int64)
    scale, first, second, everything = blocks[:, 96:].view(np.float32).T
    whole = digits[:, 0] * 65536 + digits[:, 1] * 256 + digits[:, 2]
    np.testing.assert_allclose((whole * scale[:, None]).reshape(-1), x, atol=4e4 * 2**-23)
    np.testing.assert_allclose(first + second, everything, rtol=1e-5)
    np.testing.assert_allclose(everything, x.reshape(2, 32).sum(axis=1), rtol=1e-4)


def test_norm(random: np.random.Generator, program: Program) -> None:
    x, weight = floats(random, 48), floats(random, 48)
    out = Operand(48, shared_walkers().threads)
    program.norm(operand(x), weight, 1e-5, out, fixed=False)
    program.finish()
    program.run()
    for values in out.values:
        np.testing.assert_allclose(values[:48], rms_norm(np, x[:, None], weight, 1e-5)[:, 0], **EXACT)


def test_gate(random: np.random.Generator, program: Program) -> None:
    gates, ups = 30 * floats(random, 80), floats(random, 80)
    gates[:2] = 200, -200
    out = Operand(80)
    program.gate(gates, ups, out)
    program.finish()
    program.run()
    np.testing.assert_allclose(out.values[0, :80], swiglu(np, gates, ups), **EXACT)


def test_turn_and_attend(random: np.random.Generator, program: Program) -> None:
    heads, groups, size, position, capacity = 6, 2, 32, 20, 24
    angles = random.uniform(0, 6, 12)
    turns = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    queries, keys = floats(random, heads * size), floats(random, groups * size)
    cached = floats(random, 2, groups, capacity, size)
    before, out = cached.copy(), Operand(heads * size)
    scores = aligned((shared_walkers().threads, 32), np.float32)
    program.turn(turned := queries.copy(), heads, size, turns, apart=1, count=12)
    key_row = program.turn(keys, groups, size, turns, apart=1, count=12)
    program.meet()
    attend_row = program.attend(turned, out, heads, groups, size)
    program.finish()
    program.steps[key_row, 7:9] = cached[0].ctypes.data, capacity
    program.steps[attend_row, 5:8] = cached[0].ctypes.data, cached[1].ctypes.data, capacity
    program.steps[attend_row, 9:11] = scores.ctypes.data, scores[0].nbytes
    program.run(position)

    cosines, sines = turns[:, :, None, None]

    def rotated(vector: Any) -> Any:
        return rotate_pairs(np, vector.reshape(-1, size, 1, 1), cosines, sines)

    before[0, :, position] = rotated(keys)[..., 0, 0]
    np.testing.assert_allclose(cached, before, **EXACT)
    seen = before[:, None, :, : position + 1]
    expected = attention(np, rotated(queries), seen[0], seen[1], None)
    np.testing.assert_allclose(out.values[0], expected[:, 0], **EXACT)


def test_exponential() -> None:
    @njit
    def apply(x: int, out: int) -> None:
        vectors.put_floats(out, exponential(vectors.floats_at(x)))

    x = np.linspace(-86.9, 88, 16).astype(np.float32)
    out = np.empty(16, np.float32)
    apply(x.ctypes.data, out.ctypes.data)
    np.testing.assert_allclose(out, np.exp(x.astype(np.float64)), rtol=1e-5)


def test_bytes_multiply_the_same_without_the_instruction(random: np.random.Generator) -> None:
    @intrinsic
    def anywhere(_: Any, sums: Any, codes: Any, digits: Any) -> Any:
        words = vectors.WORDS
        return vectors._emit(words(words, words, words), vectors._dot_anywhere)

    @njit
    def apply(codes: int, digits: int, out: int) -> None:
        sums = anywhere(vectors.no_words(), vectors.words_at(codes), vectors.words_at(digits))
        vectors.put_floats(out, vectors.to_floats(sums))

    codes = random.integers(0, 256, (16, 4), dtype=np.uint8)
    digits = random.integers(-128, 128, (16, 4), dtype=np.int8)
    codes[0], digits[0] = 255, -128
    out = np.empty(16, np.float32)
    apply(codes.ctypes.data, digits.ctypes.data, out.ctypes.data)
    np.testing.assert_array_equal(out, (codes.astype(int) * digits).sum(axis=1))
