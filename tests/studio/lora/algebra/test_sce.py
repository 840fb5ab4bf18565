"""SCE against its three steps on dense float64 arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studio.lora import algebra


@pytest.mark.parametrize("case", ["random", "experts", "SmolLM2"])
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_select_calculate_erase(case: str, density: float, cases: Any, dense: Any, error: Any) -> None:
    deltas = dense(cases[case])
    matrices = deltas.reshape(len(deltas), -1, *deltas.shape[-2:])
    expected = np.zeros(matrices.shape[1:])
    for expert in range(len(expected)):
        heard = matrices[:, expert]
        variances = heard.var(axis=0)
        count = int(density * np.count_nonzero(variances))
        selected = heard * (variances >= np.sort(variances, axis=None)[-count])
        weights = (selected**2).mean(axis=(1, 2))[:, None, None]
        agree = np.sign(selected) == np.where(selected.sum(axis=0) >= 0, 1, -1)
        divisors = (weights * agree).sum(axis=0)
        expected[expert] = (selected * weights * agree).sum(axis=0) / np.where(divisors > 0, divisors, 1)
    found = algebra.sce("m", cases[case], density=density)
    assert error(found, expected.reshape(deltas.shape[1:])) < 1e-6


def test_an_adapter_alone_is_left_as_it_is(cases: Any, dense: Any, error: Any) -> None:
    assert error(algebra.sce("m", cases["alone"], density=0.1), dense(cases["alone"])[0]) < 1e-6
