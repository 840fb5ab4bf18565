"""The bounded descent finds minima that are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from studio.learning.blend_parameters import Vector
from studio.learning.descent import Slope, descend

Function = Callable[[Vector], Slope]


def minimise(
    function: Function, start: list[float], low: float, high: float, penalty: float = 0.0
) -> tuple[Vector, list[Vector]]:
    """Return the best point, and all that were tried."""
    ones = np.ones(len(start))
    descent = descend(np.array(start), low * ones, high * ones, penalty * ones, tolerance=1e-12)
    point, tried = next(descent), []
    while True:
        tried.append(point)
        try:
            point = descent.send(function(point))
        except StopIteration as end:
            return end.value, tried


def bowl(centre: list[float], *curvatures: float) -> Function:
    at = np.array(centre)
    hessian = np.diag(curvatures or (1.0,) * len(centre))
    return lambda x: Slope(float((x - at) @ hessian @ (x - at)) / 2, hessian @ (x - at))


def rosenbrock(x: Vector) -> Slope:
    """Its minimum lies at (1, 1), at the end of a bent valley."""
    bend = x[1] - x[0] ** 2
    return Slope(
        float(100 * bend**2 + (1 - x[0]) ** 2),
        np.array([-400 * x[0] * bend - 2 * (1 - x[0]), 200 * bend]),
    )


def test_a_bowl_is_found_whatever_its_curvatures() -> None:
    found, tried = minimise(bowl([0.8, -0.3, 0.4], 3.0, 0.05, 0.4), [1, 1, 1], -1.5, 1.5)
    np.testing.assert_allclose(found, [0.8, -0.3, 0.4], atol=1e-5)
    assert len(tried) < 25


def test_a_bent_valley_is_followed_to_its_end() -> None:
    found, tried = minimise(rosenbrock, [-1.2, 1], -2, 2)
    np.testing.assert_allclose(found, [1, 1], atol=1e-4)
    assert len(tried) < 100


def test_it_stays_within_the_bounds_and_finds_the_best_point_there() -> None:
    """The nearest point of a box to the centre of a round bowl; of the valley, where it meets the bound."""
    found, tried = minimise(bowl([2.0, 0.1, -7.0]), [0, 0, 0], -1, 1)
    np.testing.assert_allclose(found, [1, 0.1, -1], atol=1e-6)
    assert all((np.abs(point) <= 1).all() for point in tried)
    found, _ = minimise(rosenbrock, [-1.2, 1], -2, 0.5)
    np.testing.assert_allclose(found, [0.5, 0.25], atol=1e-4)


def test_a_start_outside_the_bounds_is_brought_inside() -> None:
    _, tried = minimise(bowl([0.0, 0.0]), [9, -9], -1, 1)
    np.testing.assert_array_equal(tried[0], [1, -1])


@pytest.mark.parametrize("start", [[0, 0, 0], [1, 1, 1], [-1, -1, -1]])
def test_a_penalty_shrinks_what_helps_and_silences_what_does_not(start: list[float]) -> None:
    """Of a bowl it has a closed form: soft thresholding."""
    found, _ = minimise(bowl([0.8, -0.5, 0.2], 1.0, 2.0, 1.0), start, -1.5, 1.5, penalty=0.3)
    np.testing.assert_allclose(found, [0.5, -0.35, 0.0], atol=1e-6)
    assert found[2] == 0


def test_the_value_never_rises_from_step_to_step() -> None:
    values = [rosenbrock(point).value for point in minimise(rosenbrock, [-1.2, 1], -2, 2)[1]]
    best = np.minimum.accumulate(values)
    assert best[-1] < 1e-7
    assert rosenbrock(minimise(rosenbrock, [-1.2, 1], -2, 2)[0]).value == best[-1]


def test_at_a_minimum_it_ends_at_once() -> None:
    found, tried = minimise(bowl([0.5, 0.5]), [0.5, 0.5], -1, 1)
    assert len(tried) == 1
    np.testing.assert_array_equal(found, [0.5, 0.5])
