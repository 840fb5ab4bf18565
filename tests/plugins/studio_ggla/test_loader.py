"""ggla, the format before GGUF: its header, its tensors, and whose rows they hold."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import FormatError, GgufFile, StudioError, UnsupportedError, rows_to_gguf
from studio_ggla.loader import GglaLoader, GglaOptions

WriteGgla = Callable[..., Path]
SmallBase = Callable[..., GgufFile]

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((16, 2), np.float32), RNG.standard_normal((16, 2), np.float32)


def tensors(module: str = "layers.0.attention.wq.weight") -> dict[str, Any]:
    return {f"{module}.loraA": A, f"{module}.loraB": B.astype(np.float16)}


def load(path: Path, base: GgufFile | None = None, options: GglaOptions | None = None) -> Any:
    return GglaLoader().load(path, base, options or GglaOptions())


def test_it_is_read_with_a_turned(write_ggla: WriteGgla, small_base: SmallBase, tmp_path: Path) -> None:
    path = write_ggla(tmp_path / "a.bin", 2, 6, tensors())
    half = B.astype(np.float16).astype(np.float32)
    for order, rows in (("auto", rows_to_gguf(half, 4)), ("as stored", half)):
        factors = load(path, small_base(), GglaOptions(row_order=order)).factors["blk.0.attn_q.weight"]  # type: ignore[arg-type]
        np.testing.assert_array_equal(factors.a, A.T)
        np.testing.assert_array_equal(factors.b, rows)
        assert factors.scaling == 3


def test_ggufs_names_are_understood_with_ggufs_rows(
    write_ggla: WriteGgla, small_base: SmallBase, tmp_path: Path
) -> None:
    path = write_ggla(tmp_path / "a.bin", 2, 6, tensors("blk.0.attn_q.weight"))
    factors = load(path, small_base()).factors["blk.0.attn_q.weight"]
    np.testing.assert_array_equal(factors.b, B.astype(np.float16))


def test_what_is_no_half_is_listed(write_ggla: WriteGgla, tmp_path: Path) -> None:
    path = write_ggla(
        tmp_path / "a.bin", 2, 6, tensors() | {"stray": A, "odd.weight.loraA": A, "odd.weight.loraB": B}
    )
    assert load(path).unmapped == ("stray", "odd.weight")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"rank": 3}, FormatError),
        ({"alpha": -1}, FormatError),
        ({"tensors": {"x.loraA": A}}, FormatError),
        ({"tensors": {"x.loraA": A, "x.loraB": np.ones((2, 3, 4), np.float32)}}, FormatError),
        ({"tensors": {"x.loraA": A[:, 0].copy(), "x.loraB": B}}, FormatError),
        ({"name_bytes": 1 << 30}, FormatError),
        ({"name_bytes": -1}, FormatError),
    ],
)
def test_what_makes_no_sense_is_refused(
    write_ggla: WriteGgla, tmp_path: Path, change: dict[str, Any], error: type[StudioError]
) -> None:
    given = {"rank": 2, "alpha": 4, "tensors": tensors()} | change
    path = write_ggla(tmp_path / "a.bin", **given)
    with pytest.raises(error) as caught:
        load(path)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("offset", "value", "error"),
    [
        (4, 2, UnsupportedError),  # version
        (16, 1 << 30, FormatError),  # dimensions
        (24, 7, UnsupportedError),  # type
        (28, 1 << 30, FormatError),  # a size
        (32, -5, FormatError),
    ],
)
def test_a_header_that_lies_is_refused_before_anything_is_allocated(
    write_ggla: WriteGgla, tmp_path: Path, offset: int, value: int, error: type[StudioError]
) -> None:
    path = write_ggla(tmp_path / "a.bin", 2, 4, tensors())
    data = bytearray(path.read_bytes())
    data[offset : offset + 4] = struct.pack("<i", value)
    path.write_bytes(data)
    with pytest.raises(error):
        load(path)
