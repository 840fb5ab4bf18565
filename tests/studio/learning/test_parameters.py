"""Factors that follow their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

from studio.contracts import FactorGradients, FloatArray, Gradients, Loss
from studio.errors import EngineError
from studio.learning.momentum import Momentum, MomentumOptions
from studio.learning.parameters import Parameters, added
from studio.lora.adapter import Adapter, LoraFactors

Q, V = "blk.0.attn_q.weight", "blk.0.attn_v.weight"


def numbers(seed: int, *shape: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def adapter() -> Adapter:
    factors = {Q: LoraFactors(numbers(0, 2, 6), numbers(1, 4, 2), 4.0)}
    return Adapter("new", {**factors, V: LoraFactors(numbers(2, 3, 6), numbers(3, 2, 3), 4.0)})


def gradients(weight: float = 5.0) -> Gradients:
    factors = {
        Q: FactorGradients(numbers(4, 2, 6), numbers(5, 4, 2)),
        V: FactorGradients(numbers(6, 3, 6), numbers(7, 2, 3)),
    }
    return Gradients(Loss(10.0, weight), {}, factors)


def descent(start: Adapter, clipping: float = 0.0, b_ratio: float = 1.0) -> Parameters:
    run = Momentum().start(MomentumOptions(momentum=0.0))
    return Parameters(start, run, clipping=clipping, b_ratio=b_ratio)


def test_a_step_goes_down_the_gradient_of_the_mean_and_makes_another_version() -> None:
    start = adapter()
    parameters = descent(start)
    parameters.follow(gradients(weight=5.0), rate=0.1)
    for module, gradient in gradients().factors.items():
        pair = parameters.adapter.factors[module]
        np.testing.assert_allclose(pair.a, start.factors[module].a - 0.02 * gradient.a, rtol=1e-6)
        np.testing.assert_allclose(pair.b, start.factors[module].b - 0.02 * gradient.b, rtol=1e-6)
    assert parameters.adapter.version != start.version
    np.testing.assert_array_equal(start.factors[Q].a, numbers(0, 2, 6))


def test_b_may_learn_faster_than_a() -> None:
    start, plain, faster = adapter(), descent(adapter()), descent(adapter(), b_ratio=16.0)
    plain.follow(gradients(), rate=0.01)
    faster.follow(gradients(), rate=0.01)
    np.testing.assert_array_equal(plain.adapter.factors[Q].a, faster.adapter.factors[Q].a)
    slow, fast = (one.adapter.factors[Q].b - start.factors[Q].b for one in (plain, faster))
    np.testing.assert_allclose(fast, 16 * slow, rtol=1e-3)


def test_the_norm_is_told_and_the_step_is_clipped_by_it() -> None:
    whole = np.concatenate(
        [part.reshape(-1) for pair in gradients().factors.values() for part in (pair.a, pair.b)]
    )
    start = adapter()
    parameters = descent(start, clipping=0.5)
    norm = parameters.follow(gradients(weight=5.0), rate=1.0)
    assert norm == pytest.approx(np.linalg.norm(whole) / 5.0, rel=1e-6)
    steps = [
        after - before
        for module, pair in parameters.adapter.factors.items()
        for after, before in ((pair.a, start.factors[module].a), (pair.b, start.factors[module].b))
    ]
    assert math.sqrt(sum(float(np.sum(step**2)) for step in steps)) == pytest.approx(0.5, rel=1e-5)


def test_two_batches_add_up_to_one() -> None:
    both = added(added(None, gradients(weight=5.0)), gradients(weight=3.0))
    assert both.loss == Loss(20.0, 8.0)
    np.testing.assert_allclose(both.factors[V].a, 2 * numbers(6, 3, 6))


def test_a_gradient_that_is_not_finite_is_refused_and_nothing_changes() -> None:
    broken = gradients()
    broken.factors[Q].a[0, 0] = np.nan
    start = adapter()
    parameters = descent(start)
    with pytest.raises(EngineError, match="not a finite number.*Lower the learning rate"):
        parameters.follow(broken, rate=0.1)
    assert parameters.adapter is start
