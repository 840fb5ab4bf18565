"""A weight that stays as small as in its file, before, while and after it is repacked for the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.engine import stored
from studio.engine.kernels.tiles import Tiles
from studio.engine.linear import fuse
from studio.engine.stored import StoredWeight
from studio.engine.weights import StoredLinear
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


def test_it_multiplies_from_the_other_side(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As gradients go back: panel by panel as well, before and after it is repacked."""
    monkeypatch.setattr(stored, "PANEL_VALUES", 16 * 32)
    weight, dense = StoredWeight.read(base, NAME), base.dense(NAME)
    columns = np.random.default_rng().standard_normal((40, 5), dtype=np.float32)
    wanted = dense.T.astype(np.float64) @ columns
    assert np.linalg.norm(weight.matmul_transposed(columns) - wanted) < 1e-6 * np.linalg.norm(wanted)
    weight.tile(Tiles.dense)
    assert np.linalg.norm(weight.matmul_transposed(columns) - wanted) < 1e-6 * np.linalg.norm(wanted)


def test_a_group_multiplies_from_the_other_side_as_its_weights_one_below_the_other(base: Any) -> None:
    group = ("blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight")
    parts = StoredLinear(tuple(StoredWeight.read(base, name) for name in group), (None,) * 3)
    (fused,) = fuse(base, group, "dense")
    random = np.random.default_rng()
    columns = [random.standard_normal((out, 4), dtype=np.float32) for out in parts.outputs]
    below = np.concatenate([base.dense(name) for name in group]).astype(np.float64)
    wanted = below.T @ np.concatenate(columns)
    for linear in (parts, fused):
        found = linear.apply_transposed(columns)
        assert np.linalg.norm(found - wanted) < 1e-6 * np.linalg.norm(wanted)


def test_one_that_is_damaged_is_refused_by_name(memory_base: Callable[..., Any]) -> None:
    base = memory_base({}, {NAME: np.full((4, 32), np.nan, np.float32)})
    with pytest.raises(FormatError, match=NAME):
        StoredWeight.read(base, NAME)
