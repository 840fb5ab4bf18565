"""Which rank a limit asks for, and what ranks cost."""

from __future__ import annotations

import numpy as np
import pytest

from studio.lora.algebra import RankLimit, error_curve

VALUES = np.array([4.0, 3.0, 2.0, 1.0])  # squares 16, 9, 4, 1: 30 in all


@pytest.mark.parametrize(
    ("limit", "rank"),
    [
        (RankLimit(), 4),
        (RankLimit(3), 3),
        (RankLimit(9), 4),
        (RankLimit(energy=25 / 30), 2),
        (RankLimit(energy=26 / 30), 3),
        (RankLimit(sv_fro=(25 / 30) ** 0.5 - 1e-9), 2),
        (RankLimit(sv_cumulative=0.69), 2),
        (RankLimit(sv_cumulative=0.71), 3),
        (RankLimit(sv_ratio=2.1), 3),
        (RankLimit(sv_ratio=1.0), 1),
        (RankLimit(1, energy=0.99), 1),
    ],
)
def test_the_strictest_limit_decides(limit: RankLimit, rank: int) -> None:
    assert limit.of(VALUES) == rank


def test_experts_get_what_the_neediest_needs() -> None:
    assert RankLimit(energy=0.8).of(np.array([[1.0, 0, 0], [1.0, 1.0, 1.0]])) == 3


def test_the_curve_is_that_of_all_modules_together() -> None:
    curve = error_curve([VALUES, np.array([[1.0, 1.0], [2.0, 0.0]])])  # one weight, and two experts
    assert curve == pytest.approx(np.sqrt(np.array([36, 15, 5, 1, 0]) / 36))
    assert error_curve([]) == pytest.approx([0])
    assert error_curve([np.zeros(2)]) == pytest.approx([0, 0, 0])
