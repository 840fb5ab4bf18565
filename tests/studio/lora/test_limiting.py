"""A limit on the rank makes an adapter of any method's result."""

from __future__ import annotations

from typing import Any

import numpy as np

from studio.contracts import Combination, DeltaPart
from studio.lora.algebra import RankLimit, compress
from studio.lora.limiting import limited
from studio.registry import load_plugins


def _parts() -> list[DeltaPart]:
    random = np.random.default_rng(0)
    return [
        DeltaPart(
            random.standard_normal((3, 12), np.float32), random.standard_normal((10, 3), np.float32), s, s
        )
        for s in (0.5, -1.0)
    ]


def _product(part: Any) -> Any:
    return part.scale * (part.b @ part.a)


def test_every_method_fits_into_a_rank() -> None:
    parts = _parts()
    for method in load_plugins(safe_mode=True).combine_methods:
        options = method.Options()
        whole = method.combine("m", parts, options)
        cut = limited(Combination(method, options), RankLimit(2))
        assert cut is not None
        found = cut.method.combine("m", parts, cut.options)
        assert isinstance(found, DeltaPart)
        assert found.a.shape == (2, 12)
        np.testing.assert_allclose(_product(found), _product(compress(whole, RankLimit(2))), atol=1e-5)


def test_without_a_method_it_is_the_sum_that_is_cut() -> None:
    parts = _parts()
    cut = limited(None, RankLimit(6))
    assert cut is not None
    found = cut.method.combine("m", parts, cut.options)
    assert isinstance(found, DeltaPart)
    np.testing.assert_allclose(_product(found), sum(map(_product, parts)), atol=1e-5)
    assert cut.method.name == "sum, cut"


def test_no_limit_changes_nothing() -> None:
    assert limited(None, RankLimit()) is None
    (cat,) = [one for one in load_plugins(safe_mode=True).combine_methods if one.name == "cat"]
    combination = Combination(cat, cat.Options())
    assert limited(combination, RankLimit()) is combination
