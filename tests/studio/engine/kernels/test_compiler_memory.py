"""The compiler's memory, once it has compiled."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from studio.engine.kernels.compiler_memory import LIBRARY, give_compiler_back


def resident() -> int:
    """Return how many KB of the compiler's library are in memory."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.split()[0].endswith(":"):
            counts = LIBRARY in line
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked")
def test_it_is_given_back_and_comes_again_when_it_is_wanted() -> None:
    @njit
    def twice(x: float) -> float:
        return 2 * x

    assert twice(1.5) == 3
    before = resident()
    assert give_compiler_back() > 0
    assert resident() < before

    @njit
    def thrice(x: np.ndarray) -> np.ndarray:
        return 3 * x

    np.testing.assert_array_equal(thrice(np.arange(4.0)), [0, 3, 6, 9])
