"""Spherical interpolation in factors against the same between dense vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from studio.errors import UnsupportedError
from studio.lora import algebra

Array = np.ndarray[Any, np.dtype[np.float64]]


def along_the_arc(first: Array, second: Array, t: float, axis: int | None = None) -> Array:
    """Interpolate whole arrays, or the vectors along an axis."""

    def product(one: Array, other: Array) -> Array:
        return np.asarray((one * other).sum(axis=axis, keepdims=True))

    angle = np.arccos(product(first, second) / np.sqrt(product(first, first) * product(second, second)))
    return np.asarray((np.sin((1 - t) * angle) * first + np.sin(t * angle) * second) / np.sin(angle))


@pytest.mark.parametrize("case", ["random", "SmolLM2"])
def test_slerp_goes_between_the_deltas_as_heard(case: str, cases: Any, dense: Any, error: Any) -> None:
    parts = cases[case][:2]
    first, second = dense(parts)
    found = algebra.slerp("m", parts, t=0.3)
    assert error(found, along_the_arc(first, second, 0.3)) < 1e-5
    assert found.a.shape[0] == sum(part.a.shape[0] for part in parts)  # it stays in factors
    assert error(algebra.slerp("m", parts, t=0.0), first) < 1e-6
    assert error(algebra.slerp("m", parts, t=1.0), second) < 1e-6


@pytest.mark.parametrize("case", ["random", "experts", "SmolLM2"])
@pytest.mark.parametrize(("direction", "axis"), [("matrix", (-2, -1)), ("rows", -1), ("columns", -2)])
def test_nuslerp_goes_by_the_weights_between_the_deltas_as_trained(
    case: str, direction: Any, axis: Any, cases: Any, dense: Any, error: Any
) -> None:
    parts = [replace(part, scale=part.scale * weight / part.weight, weight=weight)
             for part, weight in zip(cases[case], (0.5, 1.5), strict=False)]  # fmt: skip
    first, second = (delta / part.weight for delta, part in zip(dense(parts), parts, strict=True))
    found = algebra.nuslerp("m", parts, direction=direction)
    assert error(found, along_the_arc(first, second, 0.75, axis)) < 1e-5


def test_between_deltas_of_one_direction_the_way_is_straight(make_parts: Any, dense: Any, error: Any) -> None:
    (part,) = make_parts(ranks=(3,))
    found = algebra.slerp("m", [part, replace(part, scale=3 * part.scale)], t=0.25)
    assert error(found, 1.5 * dense([part])[0]) < 1e-5


def test_a_module_of_one_adapter_is_left_alone_and_three_are_too_many(
    make_parts: Any, dense: Any, error: Any
) -> None:
    parts = make_parts()
    assert error(algebra.slerp("m", parts[:1], t=0.3), dense(parts)[0]) < 1e-6
    trained = dense(parts)[0] / parts[0].weight
    assert error(algebra.nuslerp("m", parts[:1], direction="rows"), trained) < 1e-6
    with pytest.raises(UnsupportedError, match=r"m: 3 adapters are audible"):
        algebra.slerp("m", parts, t=0.5)
