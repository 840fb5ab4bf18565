"""Adapters cut to a rank."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from studio.lora.adapter import Adapter
from studio.lora.algebra import RankLimit, cut_error, error_curve
from studio.lora.resizing import resize, spectra

SHAPES = {"blk.0.attn_q.weight": (20, 16), "blk.0.ffn_up_exps.weight": (3, 12, 16)}


def done(work: Generator[Any, None, Any]) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


def delta(adapter: Adapter, module: str) -> Any:
    pair = adapter.factors[module]
    return pair.scaling * (pair.b.astype(np.float64) @ pair.a)


def test_what_is_cut_has_the_error_that_the_curve_foretells(make_adapter: Any) -> None:
    adapter = make_adapter("one", SHAPES, rank=6, alpha=9.0)
    values = done(spectra(adapter))
    curve = error_curve(values)
    norm = np.sqrt(sum(np.linalg.norm(delta(adapter, module)) ** 2 for module in SHAPES))
    for rank in (1, 4):
        cut = done(resize(adapter, RankLimit(rank)))
        assert cut.ranks == (rank,)
        missing = [delta(cut, module) - delta(adapter, module) for module in SHAPES]
        error = np.sqrt(sum(np.linalg.norm(one) ** 2 for one in missing)) / norm
        assert error == pytest.approx(curve[rank], rel=1e-4)
        assert error == pytest.approx(cut_error(values, [rank, rank]), rel=1e-4)
        assert error <= 1


def test_modules_get_the_ranks_they_need(make_adapter: Any) -> None:
    adapter = make_adapter("one", SHAPES, rank=6)
    simple = adapter.factors["blk.0.attn_q.weight"]
    adapter.replace(
        "blk.0.attn_q.weight", type(simple)(np.tile(simple.a[:1], (6, 1)), simple.b, simple.alpha)
    )
    cut = done(resize(adapter, RankLimit(energy=0.999)))
    assert cut.rank("blk.0.attn_q.weight") == 1
    assert cut.rank("blk.0.ffn_up_exps.weight") > 3


def test_what_is_small_enough_keeps_its_factors(make_adapter: Any) -> None:
    adapter = make_adapter("one", SHAPES, rank=3)
    cut = done(resize(adapter, RankLimit(8)))
    assert all(cut.factors[module] is pair for module, pair in adapter.factors.items())
    assert cut.version != adapter.version
