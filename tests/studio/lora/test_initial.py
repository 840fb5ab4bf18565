"""How new factors start."""

from __future__ import annotations

import math

import numpy as np
import pytest

from studio.errors import StudioError
from studio.lora.initial import initial_a, initial_factors


def test_kaiming_is_uniform_within_its_bound() -> None:
    a = initial_a((50, 400), "kaiming", np.random.default_rng(0))
    assert np.abs(a).max() <= 1 / math.sqrt(400)
    assert a.std() == pytest.approx(1 / math.sqrt(400) / math.sqrt(3), rel=0.02)


def test_normal_has_mean_0_and_deviation_1() -> None:
    a = initial_a((50, 400), "normal", np.random.default_rng(0))
    assert (a.mean(), a.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, rel=0.02))
    assert a.dtype == np.float32


def test_b_is_zero_and_each_expert_has_an_a_of_its_own() -> None:
    factors = initial_factors((3, 6, 4), 2, 8.0, "kaiming", np.random.default_rng(0))
    assert factors.shape == (3, 6, 4)
    assert not factors.b.any()
    assert len({factors.a[expert].tobytes() for expert in range(3)}) == 3


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(StudioError, match="'orthogonal'"):
        initial_a((2, 4), "orthogonal", np.random.default_rng(0))  # type: ignore[arg-type]
