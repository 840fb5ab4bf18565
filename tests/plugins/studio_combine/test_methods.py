"""Every method that the plugin offers takes its options, on the command line's terms too."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from studio.api import CombineMethod, DeltaPart, dense_delta
from studio.jobs.options import make_options
from studio_combine import register_combine_methods

METHODS = {method.name: method for method in register_combine_methods()}
IN_FACTORS = {"cat", "linear", "svd", "task_arithmetic", "average", "slerp", "nuslerp", "peft_factors"}


def parts(experts: tuple[int, ...] = ()) -> list[DeltaPart]:
    random = np.random.default_rng(0)
    return [
        DeltaPart(
            random.standard_normal((*experts, 3, 12), np.float32),
            random.standard_normal((*experts, 10, 3), np.float32),
            2 * weight,
            weight,
        )
        for weight in (0.5, -1.5)
    ]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("experts", [(), (2,)])
def test_the_result_fits_the_weight(method: CombineMethod, experts: tuple[int, ...]) -> None:
    found = method.combine("blk.0.attn_q.weight", parts(experts), method.Options())
    assert isinstance(found, DeltaPart) == (method.name in IN_FACTORS)
    dense = dense_delta(found)
    assert dense.shape == (*experts, 10, 12)
    assert dense.dtype == np.float32
    assert np.linalg.norm(dense) > 0


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_choice_and_bound_of_an_option_works(method: CombineMethod) -> None:
    for field in fields(method.Options):
        values: Any = field.metadata.get("choices") or field.metadata.get("range") or (False, True)
        assert field.metadata["help"]
        for value in values:
            found = method.combine("m", parts(), make_options(method, {field.name: str(value)}))
            assert np.isfinite(dense_delta(found)).all()


def test_options_change_what_comes_of_it() -> None:
    def deltas(name: str, *texts: dict[str, object]) -> list[Any]:
        method = METHODS[name]
        return [dense_delta(method.combine("m", parts(), make_options(method, text))) for text in texts]

    one, other = deltas("task_arithmetic", {"lambda_": "1"}, {"lambda_": "2"})
    np.testing.assert_allclose(other, 2 * one, rtol=1e-6)
    one, other = deltas("dare_linear", {"seed": "1"}, {"seed": "2"})
    assert not np.array_equal(one, other)
    one, other = deltas("magnitude_prune", {"density": "0.5"}, {"density": "0.25"})
    assert np.count_nonzero(one) > np.count_nonzero(other) > 0
