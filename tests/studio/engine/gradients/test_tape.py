"""What a tape notes, forgets and plays back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.engine.gradients.tape import RULES, Tape, cheap, gradient_of, operator
from studio.engine.gradients.traced import Traced


@pytest.fixture
def x() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((4, 6))


@operator
def cube(xp: Any, x: Any) -> Any:
    return x * x * x


@gradient_of(cube)
def _cube(xp: Any, gradient: Any, x: Any) -> tuple[Any]:
    return (gradient * 3 * x * x,)


RULES.pop(cube)  # the operators' own rules are counted elsewhere


@pytest.fixture(autouse=True)
def rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, cube, _cube)


def combined(x: Any) -> Any:
    """Use one array in all the ways that models do."""
    halves = x.reshape(2, 12)
    turned = halves[0].reshape(3, 4).transpose(1, 0) + halves[1].reshape(4, 3)
    scaled = 2.0 * turned * turned[:, 0:1] / 3.0 + np.ones((4, 3))
    return scaled * scaled[0:1, :] + turned[:, np.array([2, 0, 1])]


def test_arrays_used_in_every_way_have_the_gradients_of_differences(
    x: Any, central_difference: Callable[..., float]
) -> None:
    towards = np.random.default_rng(1).standard_normal((4, 3))
    tape = Tape(np)
    leaf = tape.trace(x)
    output = combined(leaf)
    np.testing.assert_array_equal(output.value, combined(x))
    tape.play(output, towards)
    found = np.zeros_like(x)
    for place in np.ndindex(x.shape):

        def moved(step: float, place: Any = place) -> float:
            near = x.copy()
            near[place] += step
            return float((combined(near) * towards).sum())

        found[place] = central_difference(moved, 1e-3)
    np.testing.assert_allclose(leaf.slot.take(), found, rtol=1e-7, atol=1e-9)


def test_a_gradient_that_two_hold_is_not_written_to(x: Any) -> None:
    tape = Tape(np)
    first, second = tape.trace(x), tape.trace(x)
    gradient = np.ones_like(x)
    tape.play(first + second + first[:, :] + first, gradient)
    np.testing.assert_array_equal(first.slot.take(), 3 * np.ones_like(x))
    np.testing.assert_array_equal(second.slot.take(), np.ones_like(x))
    np.testing.assert_array_equal(gradient, np.ones_like(x))


def test_a_whole_part_is_the_array_itself(x: Any) -> None:
    leaf = Tape(np).trace(x)
    assert leaf[:, 0:] is leaf
    assert leaf[:, 1:] is not leaf and leaf[::-1] is not leaf


def test_what_nobody_asks_for_is_not_noted(x: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, cube)
    tape = Tape(np)
    output = cube(np, tape.trace(x, wanted=False).reshape(24)[3:])
    assert isinstance(output, Traced) and not output.slot.wanted
    np.testing.assert_array_equal(output.value, (x * x * x).ravel()[3:])


def test_what_is_cheap_is_forgotten_and_computed_again(x: Any) -> None:
    computed = []

    @cheap
    @operator
    def square(xp: Any, x: Any) -> Any:
        computed.append(x)
        return x * x

    gradient_of(square)(lambda xp, gradient, x: (gradient * 2 * x,))
    try:
        tape = Tape(np)
        leaf = tape.trace(x)
        output = cube(np, square(np, leaf).reshape(24))
        assert len(computed) == 1
        tape.forget()
        tape.play(output, np.ones(24))
        assert len(computed) == 2
        np.testing.assert_allclose(leaf.slot.take(), 6 * x**5)
    finally:
        del RULES[square]


def test_a_cleared_tape_plays_nothing(x: Any) -> None:
    tape = Tape(np)
    leaf = tape.trace(x)
    output = cube(np, leaf)
    tape.clear()
    tape.play(output, np.ones_like(x))
    assert leaf.slot.gradient is None
