"""The compiled operators of a layer against NumPy's in float64, on shapes that end inside a vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.engine import operators
from studio.engine.compiled_numpy import CompiledNumpy, fastest_module, is_host
from studio.engine.gradients import operator_gradients  # noqa: F401 (the rules)
from studio.engine.gradients.attention_gradients import softmax_gradient
from studio.engine.gradients.tape import RULES, rule_of
from studio.engine.kernels.cpu import has

if not has("avx512f"):
    pytest.skip("NumPy computes on this CPU", allow_module_level=True)

from studio.engine.kernels.learning_operators import compiled_numpy

XP = compiled_numpy()
Draw = Callable[..., Any]
WIDTHS = (5, 16, 33, 127)


@pytest.fixture
def draw() -> Draw:
    random = np.random.default_rng()
    return lambda *shape: 3 * random.standard_normal(shape, dtype=np.float32)


def assert_near(compiled: Callable[..., Any], plain: Callable[..., Any], *operands: Any) -> None:
    """Hold a compiled operator, or rule, against the plain one in float64."""
    found = compiled(XP, *(np.copy(one) if isinstance(one, np.ndarray) else one for one in operands))
    wanted = plain(np, *(one.astype(float) if isinstance(one, np.ndarray) else one for one in operands))
    pairs = zip(found, wanted, strict=True) if isinstance(found, tuple) else [(found, wanted)]
    for its, right in pairs:
        assert its.dtype == np.float32
        assert np.linalg.norm(its - right) < 5e-7 * np.linalg.norm(right)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_compiled_operator_is_the_plain_one(draw: Draw, width: int) -> None:
    gate, up = draw(20, width), draw(20, width)
    assert_near(operators.swiglu, operators.swiglu, gate, up)
    assert_near(rule_of(XP, operators.swiglu), RULES[operators.swiglu], draw(20, width), gate, up)
    weight = draw(20)
    assert_near(operators.rms_norm, operators.rms_norm, gate, weight, 1e-5)
    assert_near(rule_of(XP, operators.rms_norm), RULES[operators.rms_norm], up, gate, weight, 1e-5)
    turning = (draw(3, 16, 2, width), draw(6, 1, width), draw(6, 1, width))
    for rotate in (operators.rotate_pairs, operators.rotate_halves):
        assert_near(rotate, rotate, *turning)
        assert_near(rule_of(XP, rotate), RULES[rotate], draw(3, 16, 2, width), *turning)
    mask = np.where(np.arange(width) > np.arange(4)[:, None] + width - 5, np.float32(-np.inf), np.float32(0))
    mask[:, 0] = 0
    for hidden in (mask, None):
        assert_near(operators.softmax, operators.softmax, draw(2, 3, 8, width), hidden)
    likely = operators.softmax(np, draw(2, 3, 8, width), mask)
    assert_near(softmax_gradient, softmax_gradient, draw(2, 3, 8, width), likely)


def test_what_is_masked_is_exactly_zero(draw: Draw) -> None:
    """Numbers next to it would be subnormal, and slow all that they are multiplied by."""
    mask = np.triu(np.full((20, 20), -np.inf, np.float32), 1)
    likely = operators.softmax(XP, draw(1, 1, 20, 20), mask)
    assert not likely[0, 0][np.triu_indices(20, 1)].any()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_overflow_shows(draw: Draw, value: float) -> None:
    x = draw(20, 33)
    x[4, 30] = value
    if not value < 0:  # silu of minus infinity is 0
        assert not np.isfinite(operators.swiglu(XP, x, draw(20, 33))[4, 30])
    assert np.isnan(operators.rms_norm(XP, x, draw(20), 1e-5)[:, 30]).all()
    assert np.isfinite(operators.rms_norm(XP, x, draw(20), 1e-5)[:, :30]).all()
    scores = draw(1, 1, 4, 33)
    scores[0, 0, 2, 5] = value
    likely = operators.softmax(XP, scores, None)
    assert np.isnan(likely[0, 0, 2]).all() and np.isfinite(likely[0, 0, :2]).all()


def test_views_are_taken_as_they_are_meant(draw: Draw) -> None:
    wide = draw(40, 66)
    assert_near(operators.swiglu, operators.swiglu, wide[:20, ::2], wide[20:, ::2])
    assert_near(operators.rms_norm, operators.rms_norm, wide.T[:20], draw(20), 1e-5)


def test_it_is_numpy_in_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(XP, CompiledNumpy) and is_host(XP) and is_host(np)
    assert XP.arange is np.arange and XP.float32 is np.float32
    from studio.engine.backend import choose_backend

    backend = choose_backend("numpy")
    assert isinstance(fastest_module(backend), CompiledNumpy)
    monkeypatch.setenv("LORA_STUDIO_KERNELS", "off")
    assert fastest_module(backend) is np
