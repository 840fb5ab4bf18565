"""A weight that stays as small as in its file, before, while and after it is repacked for the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.engine import stored
from studio.engine.kernels.tiles import Tiles
from studio.engine.stored import StoredWeight
from studio.errors import FormatError

NAME = "token_embd.weight"


@pytest.fixture
def base(tiny_base: Callable[..., Any], quantised_base: Callable[..., Any]) -> Any:
    return quantised_base(tiny_base(width=32, heads=2, head_size=16, inner=64))


def test_it_is_the_same_whenever_it_is_repacked(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "PANEL_VALUES", 16 * 32)  # so that 40 rows are three panels
    weight, dense = StoredWeight.read(base, NAME), base.dense(NAME)
    ids = np.array([3, 39, 3, 0])
    columns = np.random.default_rng(1).standard_normal((32, 5), dtype=np.float32)
    panels = weight.panels()
    rows, panel = next(panels)
    np.testing.assert_array_equal(panel, dense[rows])
    np.testing.assert_array_equal(weight.rows(ids), dense[ids])
    product = weight.matmul(columns)

    tiles = weight.tile(Tiles.dense)  # as the kernels' loading does beside a pass
    assert weight.tile(Tiles.dense) is tiles
    assert weight.nbytes == tiles.nbytes
    for rows, panel in panels:  # of the pass that was under way
        np.testing.assert_array_equal(panel, dense[rows])
    np.testing.assert_array_equal(weight.dense(), dense)
    np.testing.assert_array_equal(weight.rows(ids), dense[ids])
    np.testing.assert_array_equal(weight.matmul(columns), product)


def test_one_that_is_damaged_is_refused_by_name(memory_base: Callable[..., Any]) -> None:
    base = memory_base({}, {NAME: np.full((4, 32), np.nan, np.float32)})
    with pytest.raises(FormatError, match=NAME):
        StoredWeight.read(base, NAME)
