"""The k-th largest number of blocks is that of all of them sorted."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.lora.algebra.selection import kth_largest

numbers = st.floats(0, 1e300) | st.sampled_from([0.0, -0.0, 1.0, 5e-324])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(numbers, min_size=1, max_size=12), st.integers(2, 5))
def test_it_is_that_of_the_sorted_numbers(values: list[float], block: int) -> None:
    blocks = [np.array(values[start : start + block]) for start in range(0, len(values), block)]
    ordered = sorted(values, reverse=True)
    assert [kth_largest(lambda: blocks, k + 1) for k in range(len(values))] == ordered


def test_none_of_them_is_as_large_as_infinity() -> None:
    assert kth_largest(lambda: [np.ones(3)], 0) == np.inf
