"""Freed memory that stays at hand."""

from __future__ import annotations

import ctypes
import resource

import numpy as np
import pytest

from studio.engine.kept_memory import kept_memory

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc is asked")


def pages_taken() -> int:
    """Return how many pages a large array takes from the system."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(48 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_large_array_is_taken_from_the_system_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with kept_memory():
        with kept_memory():
            pages_taken()
        inside = pages_taken()  # the first to leave is not the last
    outside = pages_taken()
    assert inside < outside / 4
