"""Tiles hold exactly what the file holds, for every type that the kernels read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studio.engine.kernels.codes import LAYOUTS
from studio.engine.kernels.tiles import Kind, can_tile, tile_dense, tile_raw
from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME

SHAPE = (40, 512)  # two whole tiles and half of one
HALVES_AT = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q4_1": (0, 2), "Q5_1": (0, 2)}


def random_rows(type_name: str) -> Any:
    """Make random blocks of a type whose float16 fields are ordinary numbers."""
    random = np.random.default_rng(3)
    kind = GGML_TYPES_BY_NAME[type_name]
    blocks = random.integers(
        0, 256, (SHAPE[0], SHAPE[1] // kind.block_size, kind.block_bytes), dtype=np.uint8
    )
    for start in HALVES_AT.get(type_name, (0,)):
        halves = random.uniform(0.01, 0.1, blocks.shape[:2]).astype("<f2")
        blocks[..., start : start + 2] = halves[..., None].view(np.uint8)
    return blocks.reshape(SHAPE[0], -1)


@pytest.mark.parametrize("type_name", LAYOUTS)
def test_tiles_are_the_dequantised_weight(type_name: str) -> None:
    raw = random_rows(type_name)
    expected = dequantise(raw, GGML_TYPES_BY_NAME[type_name].number)
    tiles = tile_raw(raw, type_name, SHAPE)
    assert can_tile(type_name, SHAPE) and tiles.kind.coded
    np.testing.assert_allclose(tiles.dense(), expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(tiles.rows([39, 0, 17]), tiles.dense()[[39, 0, 17]])
    np.testing.assert_array_equal(tiles.dense(1, 2), tiles.dense()[16:32])


@pytest.mark.parametrize("type_name", ["F16", "BF16", "F32"])
def test_plain_tiles_are_the_weight(type_name: str) -> None:
    values = np.random.default_rng(0).standard_normal((19, 7)).astype(np.float32)
    values = values.astype(np.float16).astype(np.float32) if type_name == "F16" else values
    stored = values.astype("<f2") if type_name == "F16" else values
    if type_name == "BF16":
        stored = (values.view(np.uint32) >> 16).astype("<u2")
        values = (stored.astype(np.uint32) << 16).view(np.float32)
    tiles = tile_raw(stored.view(np.uint8).reshape(19, -1), type_name, (19, 7))
    np.testing.assert_array_equal(tiles.dense(), values)


def test_a_scale_beyond_float16_is_kept_wider() -> None:
    raw = random_rows("Q8_0").reshape(SHAPE[0], -1, 34)
    raw[..., :2] = np.array([60000], "<f2").view(np.uint8)
    tiles = tile_raw(raw.reshape(SHAPE[0], -1), "Q8_0", SHAPE)
    expected = dequantise(raw.reshape(SHAPE[0], -1), GGML_TYPES_BY_NAME["Q8_0"].number)
    np.testing.assert_allclose(tiles.dense(), expected, rtol=1e-6)


def test_factors_become_float16_only_without_loss() -> None:
    halves = np.random.default_rng(0).standard_normal((8, 24)).astype(np.float16).astype(np.float32)
    assert tile_dense(halves, smallest=True).kind == Kind.HALVES
    assert tile_dense(halves * np.float32(1.001), smallest=True).kind == Kind.FLOATS
    np.testing.assert_array_equal(tile_dense(halves, smallest=True).dense(), halves)
