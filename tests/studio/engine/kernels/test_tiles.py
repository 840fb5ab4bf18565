"""Tiles hold exactly what the file holds, for every type that the kernels read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.engine.kernels.codes import LAYOUTS
from studio.engine.kernels.tiles import Kind, can_tile, tile_dense, tile_raw
from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME

SHAPE = (40, 512)  # two whole tiles and half of one
Rows = Callable[..., Any]


@pytest.mark.parametrize("type_name", LAYOUTS)
def test_tiles_are_the_dequantised_weight(type_name: str, stored_rows: Rows) -> None:
    raw = stored_rows(type_name)
    expected = dequantise(raw, GGML_TYPES_BY_NAME[type_name].number)
    tiles = tile_raw(raw, type_name, SHAPE)
    assert can_tile(type_name, SHAPE) and tiles.kind.coded
    np.testing.assert_allclose(tiles.dense(), expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(tiles.rows([39, 0, 17]), tiles.dense()[[39, 0, 17]])
    np.testing.assert_array_equal(tiles.dense(1, 2), tiles.dense()[16:32])


@pytest.mark.parametrize("type_name", ["F16", "BF16", "F32"])
def test_plain_tiles_are_the_weight(type_name: str, stored_rows: Rows) -> None:
    raw = stored_rows(type_name, (19, 7))
    expected = dequantise(raw, GGML_TYPES_BY_NAME[type_name].number)
    np.testing.assert_array_equal(tile_raw(raw, type_name, (19, 7)).dense(), expected)


def test_a_scale_beyond_float16_is_kept_wider(stored_rows: Rows) -> None:
    raw = stored_rows("Q8_0").reshape(SHAPE[0], -1, 34)
    raw[..., :2] = np.array([60000], "<f2").view(np.uint8)
    tiles = tile_raw(raw.reshape(SHAPE[0], -1), "Q8_0", SHAPE)
    expected = dequantise(raw.reshape(SHAPE[0], -1), GGML_TYPES_BY_NAME["Q8_0"].number)
    np.testing.assert_allclose(tiles.dense(), expected, rtol=1e-6)


def test_factors_become_float16_only_without_loss() -> None:
    halves = np.random.default_rng(0).standard_normal((8, 24)).astype(np.float16).astype(np.float32)
    assert tile_dense(halves, smallest=True).kind == Kind.HALVES
    assert tile_dense(halves * np.float32(1.001), smallest=True).kind == Kind.FLOATS
    np.testing.assert_array_equal(tile_dense(halves, smallest=True).dense(), halves)
