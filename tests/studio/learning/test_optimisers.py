"""AdamW and momentum against their formulas in float64, and their states on the way through a checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studio.contracts import FloatArray, OptimiserRun
from studio.learning.adamw import AdamW, AdamWOptions
from studio.learning.momentum import Momentum, MomentumOptions

STEPS = 40


def gradients(seed: int) -> list[FloatArray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(3, 5)).astype(np.float32) for _ in range(STEPS)]


def first_value(seed: int) -> FloatArray:
    return np.random.default_rng(seed + 1000).normal(size=(3, 5)).astype(np.float32)


def follow(run: OptimiserRun, value: FloatArray, along: list[FloatArray], rate: float) -> FloatArray:
    for gradient in along:
        value = run.update("weight", value, gradient, rate)
    return value


def relative_error(found: FloatArray, exact: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def exact_adamw(value: Any, along: list[FloatArray], rate: float, options: AdamWOptions) -> Any:
    """Loshchilov and Hutter 2019, algorithm 2, in float64."""
    value = value.astype(np.float64)
    mean = square = np.zeros_like(value)
    for step, gradient in enumerate(along, start=1):
        mean = options.beta_1 * mean + (1 - options.beta_1) * gradient.astype(np.float64)
        square = options.beta_2 * square + (1 - options.beta_2) * gradient.astype(np.float64) ** 2
        unbiased_mean = mean / (1 - options.beta_1**step)
        unbiased_square = square / (1 - options.beta_2**step)
        decayed = rate * options.weight_decay * value
        value = value - rate * unbiased_mean / (np.sqrt(unbiased_square) + options.epsilon) - decayed
    return value


@pytest.mark.parametrize("options", [AdamWOptions(), AdamWOptions(0.8, 0.95, 1e-4, weight_decay=0.3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_adamw_is_its_formula(options: AdamWOptions, seed: int) -> None:
    value, along = first_value(seed), gradients(seed)
    found = follow(AdamW().start(options), value, along, 0.05)
    assert found.dtype == np.float32
    assert relative_error(found, exact_adamw(value, along, 0.05, options)) < 1e-6


def test_the_first_step_of_adamw_is_the_rate_whatever_the_gradient() -> None:
    value = np.zeros(3, np.float32)
    stepped = AdamW().start(AdamWOptions()).update("w", value, np.array([1e-3, -1.0, 1e3], np.float32), 0.1)
    np.testing.assert_allclose(stepped, [-0.1, 0.1, -0.1], rtol=1e-4)


@pytest.mark.parametrize("options", [MomentumOptions(), MomentumOptions(0.5, weight_decay=0.1)])
def test_momentum_is_its_formula(options: MomentumOptions) -> None:
    value, along = first_value(2), gradients(2)
    exact, velocity = value.astype(np.float64), np.zeros((3, 5))
    for gradient in along:
        velocity = options.momentum * velocity + gradient + options.weight_decay * exact
        exact = exact - 0.05 * velocity
    assert relative_error(follow(Momentum().start(options), value, along, 0.05), exact) < 1e-6


@pytest.mark.parametrize(
    "start", [lambda: AdamW().start(AdamWOptions()), lambda: Momentum().start(MomentumOptions())]
)
def test_a_state_that_is_kept_goes_on_as_if_nothing_had_been(start: Any) -> None:
    along = gradients(3)
    unbroken, before = start(), start()
    value = follow(before, first_value(3), along[:20], 0.01)
    after = start()
    after.restore({name: array.copy() for name, array in before.state().items()})
    np.testing.assert_array_equal(
        follow(after, value, along[20:], 0.01), follow(unbroken, first_value(3), along, 0.01)
    )


def test_neither_changes_what_it_is_given() -> None:
    value, gradient = first_value(4), gradients(4)[0]
    value.flags.writeable = gradient.flags.writeable = False
    for run in (AdamW().start(AdamWOptions()), Momentum().start(MomentumOptions())):
        assert run.update("w", value, gradient, 0.1) is not value
