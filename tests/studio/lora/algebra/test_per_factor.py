"""PEFT's way of combining factors; tests/peers holds it against PEFT itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from studio.errors import UnsupportedError
from studio.lora import algebra

OPTIONS: dict[str, Any] = {"density": 0.5, "majority": "total", "seed": 0}


@pytest.mark.parametrize("shape", [(20, 16), (2, 8, 6)])
def test_linear_adds_factors_with_the_roots_of_the_scales(shape: Any, make_parts: Any, error: Any) -> None:
    parts = make_parts(shape, (4, 4))
    roots = [abs(part.scale) ** 0.5 for part in parts]
    a = sum(np.sign(p.scale) * root * p.a.astype(np.float64) for p, root in zip(parts, roots, strict=True))
    b = sum(root * p.b.astype(np.float64) for p, root in zip(parts, roots, strict=True))
    found = algebra.per_factor("m", parts, rule="linear", **OPTIONS)
    assert error(found, b @ a) < 1e-6


def test_pruning_keeps_the_share_of_each_factor(make_parts: Any) -> None:
    (part,) = make_parts(ranks=(4,))
    for rule in ("magnitude_prune", "ties"):
        found = algebra.per_factor("m", [part], rule=rule, **OPTIONS)
        assert np.count_nonzero(found.a) == part.a.size // 2
        assert np.count_nonzero(found.b) == part.b.size // 2
        assert np.abs(found.a).max() == pytest.approx(np.abs(part.a).max() * abs(part.scale) ** 0.5)
    dropped = algebra.per_factor("m", [part], rule="dare_ties", **OPTIONS)
    again = algebra.per_factor("m", [part], rule="dare_linear", **OPTIONS)
    assert np.array_equal(dropped.a, again.a)  # alone, every weight agrees with itself
    assert 0 < np.count_nonzero(dropped.a) < part.a.size
    nothing = algebra.per_factor("m", [part], rule="ties", **OPTIONS | {"density": 0.001})
    assert not nothing.a.any()


def test_ties_elects_signs_before_it_weighs(make_parts: Any, error: Any) -> None:
    one, other = make_parts(ranks=(2, 2))
    parts = [replace(one, scale=4.0), replace(other, scale=-0.25)]
    found = algebra.per_factor("m", parts, rule="ties", **OPTIONS | {"density": 1.0})
    factors = np.stack([one.a, other.a]).astype(np.float64)
    agree = np.sign(factors) == np.where(factors.sum(axis=0) >= 0, 1, -1)
    weighted = factors * np.array([2.0, -0.5])[:, None, None]
    expected = (weighted * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1)
    assert np.linalg.norm(found.a - expected) < 1e-6 * np.linalg.norm(expected)


def test_different_ranks_are_refused(make_parts: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"m: the adapters have ranks 2, 5, 3"):
        algebra.per_factor("m", make_parts(), rule="linear", **OPTIONS)
