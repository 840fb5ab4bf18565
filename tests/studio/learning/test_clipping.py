"""The norm of gradients, and clipping by it."""

from __future__ import annotations

import numpy as np
import pytest

from studio.learning.clipping import clipping_factor, global_norm


def test_the_norm_is_that_of_all_gradients_as_one_vector() -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(size=shape).astype(np.float32) for shape in ((4, 6), (3,), (2, 3, 5))]
    whole = np.concatenate([part.reshape(-1) for part in parts]).astype(np.float64)
    assert global_norm(parts) == pytest.approx(np.linalg.norm(whole), rel=1e-6)


def test_what_is_clipped_has_the_highest_norm_there_may_be() -> None:
    gradient = np.array([3.0, 4.0], np.float32)
    assert global_norm([clipping_factor(5.0, 2.0) * gradient]) == pytest.approx(2.0)


@pytest.mark.parametrize("highest", [0.0, 5.0, 6.0])
def test_nothing_is_clipped_below_it_or_without_it(highest: float) -> None:
    assert clipping_factor(5.0, highest) == 1.0
