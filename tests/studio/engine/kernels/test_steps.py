"""Every compiled step does what its twin in NumPy does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.extending import intrinsic

from studio.engine.kernels import vectors
from studio.engine.kernels.codes import LAYOUTS
from studio.engine.kernels.exponential import exponential
from studio.engine.kernels.instructions import emit
from studio.engine.kernels.loading import shared_walkers
from studio.engine.kernels.memory import aligned
from studio.engine.kernels.panels import panel
from studio.engine.kernels.program import SLOPES, HeadNorm, Operand, Program
from studio.engine.kernels.steps import Step
from studio.engine.kernels.tiles import Kind, tile_dense, tile_raw
from studio.engine.operators import (
    attention,
    geglu,
    gelu,
    head_layer_norm,
    head_norm,
    layer_norm,
    rms_norm,
    rotate_halves,
    rotate_pairs,
    swiglu,
)
from studio.engine.token_plan import Activation

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


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_norm(random: np.random.Generator, program: Program, centred: bool, adds: bool) -> None:
    x, weight, bias = floats(random, 3, 48) + np.float32(2)
    before = floats(random, 48)
    out = Operand(48, shared_walkers().threads)
    out.values[:, :48] = before
    program.norm(
        operand(x), weight, 1e-5, out, fixed=False, centred=centred, bias=bias if centred else None, adds=adds
    )
    program.finish()
    program.run()
    if centred:
        expected = layer_norm(np, x[:, None], weight, bias, 1e-5)[:, 0]
    else:
        expected = rms_norm(np, x[:, None], weight, 1e-5)[:, 0]
    for values in out.values:
        np.testing.assert_allclose(values[:48], expected + before * adds, **EXACT)


def test_a_norm_that_overflows_shows(random: np.random.Generator, program: Program) -> None:
    x = floats(random, 48) * np.float32(1e25)
    program.norm(operand(x), floats(random, 48), 1e-5, out := Operand(48), fixed=False)
    program.finish()
    program.run()
    assert np.isnan(out.values[0, :48]).all()


TWINS: dict[Activation, tuple[Any, Any]] = {
    Activation.SILU: (swiglu, lambda xp, x: swiglu(xp, x, np.ones_like(x))),
    Activation.GELU: (geglu, gelu),
}


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("activation", Activation)
def test_gate(random: np.random.Generator, program: Program, activation: Activation, gated: bool) -> None:
    gates, ups = 30 * floats(random, 80), floats(random, 80)
    gates[:3] = 200, -200, 1e10
    gates[3:40] = np.linspace(-6, 6, 37)
    out = Operand(80)
    program.gate(gates, ups if gated else None, out, activation)
    program.finish()
    program.run()
    of_two, of_one = TWINS[activation]
    expected = of_two(np, gates, ups) if gated else of_one(np, gates)
    np.testing.assert_allclose(out.values[0, :80], expected, **EXACT)


@dataclass
class Attended:
    """What heads were, and what a program made of them."""

    queries: Any
    cached: Any
    out: Any


def attended(
    program: Program,
    random: np.random.Generator,
    turns: Any,
    *,
    loudness: float = 1.0,
    norms: tuple[Any, Any] = (None, None),
    centred: bool = False,
    apart: int = 1,
    **more: Any,
) -> tuple[Attended, Attended]:
    """Turn queries and keys of 32 values and let 6 heads of 2 groups attend at position 20; and the twin."""
    heads, groups, size, position = 6, 2, 32, 20
    queries, keys = floats(random, heads * size) * np.float32(loudness), floats(random, groups * size)
    cached = floats(random, 2, 1, groups, 24, size)
    before, out, turned = cached.copy(), Operand(heads * size), np.zeros(heads * size, np.float32)
    scores = aligned((shared_walkers().threads, 32), np.float32)
    query_norm, key_norm = (norm if norm is None else HeadNorm(norm, 1e-5, centred) for norm in norms)
    program.turn(queries, heads, size, turns, apart=apart, out=turned, norm=query_norm)
    key_row = program.turn(keys, groups, size, turns, apart=apart, norm=key_norm)
    program.meet()
    scale = more.pop("scale", size**-0.5)
    attend_row = program.attend(turned, out, heads, groups, size, scale=scale, **more)
    program.finish()
    program.store_in(key_row, cached[0])
    program.attend_to(attend_row, cached[0], cached[1], scores)
    program.run(position)

    cosines, sines = turns[:, :, None, None]
    rotate = rotate_pairs if apart == 1 else rotate_halves

    def rotated(vector: Any, norm: Any) -> Any:
        x = vector.reshape(-1, size, 1, 1)
        if norm is not None and norm.shape == vector.shape:
            x = rms_norm(np, vector[:, None], norm, 1e-5).reshape(-1, size, 1, 1)
        elif norm is not None:
            x = (head_layer_norm if centred else head_norm)(np, x, norm, 1e-5)
        return rotate(np, x, cosines, sines)

    before[0, 0, :, position] = rotated(keys, norms[1])[..., 0, 0]
    first = max(0, position + 1 - (more.get("window") or 99))
    seen = before[:, :, :, first : position + 1]
    expected = attention(
        np, rotated(queries, norms[0]), seen[0], seen[1], None, scale=scale, softcap=more.get("cap")
    )
    twin = Attended(rotated(queries, norms[0]).reshape(-1), before, expected[:, 0])
    return Attended(turned, cached, out.values[0]), twin


@pytest.fixture
def turns(random: np.random.Generator) -> Any:
    angles = random.uniform(0, 6, 12)
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def check(found: Attended, twin: Attended) -> None:
    np.testing.assert_allclose(found.queries, twin.queries, **EXACT)
    np.testing.assert_allclose(found.cached, twin.cached, **EXACT)
    np.testing.assert_allclose(found.out, twin.out, **EXACT)


@pytest.mark.parametrize("apart", [1, 12])
@pytest.mark.parametrize("more", [{}, {"window": 7, "scale": 0.3}, {"cap": 1.5}])
def test_turn_and_attend(
    random: np.random.Generator, program: Program, turns: Any, apart: int, more: dict[str, Any]
) -> None:
    check(*attended(program, random, turns, apart=apart, **more))


@pytest.mark.parametrize("shapes", [((32,), (32,)), ((6, 32), (2, 32)), ((192,), (64,))])
def test_turn_with_norms(random: np.random.Generator, program: Program, turns: Any, shapes: Any) -> None:
    norms = (floats(random, *shapes[0]), floats(random, *shapes[1]))
    check(*attended(program, random, turns, norms=norms))


def test_turn_with_layer_norms(random: np.random.Generator, program: Program, turns: Any) -> None:
    norms = (floats(random, 6, 32), floats(random, 2, 32))
    check(*attended(program, random, turns, norms=norms, centred=True))


@pytest.mark.parametrize("cap", [None, 2.0])
def test_a_score_that_overflows_shows(
    random: np.random.Generator, program: Program, turns: Any, cap: float | None
) -> None:
    with np.errstate(all="ignore"):
        found, _ = attended(program, random, turns, loudness=1e38, scale=1e4, cap=cap)
    assert np.isnan(found.out).all()


def test_every_step_and_every_kind_of_tile_has_a_twin_here(stored_rows: Callable[..., Any]) -> None:
    """MEET has nothing to compute; what a test here runs is named after it."""
    tested = {
        Step.NORM: test_norm,
        Step.FIX: test_activations_become_24_bits,
        Step.PRODUCT: test_products,
        Step.TURN: test_turn_with_norms,
        Step.ATTEND: test_turn_and_attend,
        Step.GATE: test_gate,
        Step.SPREAD: test_panels,
    }
    assert set(tested) == set(Step) - {Step.MEET}
    assert {tile_raw(stored_rows(name), name, (40, 512)).kind for name in TYPES} == set(Kind)
    assert set(TWINS) == set(Activation) == set(SLOPES)


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
        return emit(words(words, words, words), vectors._dot_anywhere)

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
