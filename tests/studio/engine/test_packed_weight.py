"""A packed weight is the float32 weight that the host would make of the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from studio.engine import packed_weight
from studio.engine.backend import choose_backend
from studio.engine.kernels.codes import LAYOUTS
from studio.engine.packed_weight import as_float32, half_bytes, pack, stored_bytes
from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME

TYPES = [*LAYOUTS, "F32", "F16", "BF16"]


def random_rows(type_name: str, rows: int = 3, width: int = 512, seed: int = 5) -> Any:
    """Make the bytes of random weights whose scales are finite."""
    random = np.random.default_rng(seed)
    kind = GGML_TYPES_BY_NAME[type_name]
    values = random.standard_normal((rows, width), np.float32)
    dtypes = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    if type_name in dtypes:
        return values.astype(dtypes[type_name]).view(np.uint8)
    stored = random.integers(0, 256, (rows, kind.row_bytes(width)), np.uint8)
    blocks = stored.reshape(rows, -1, kind.block_bytes)
    halves = {"Q6_K": (208,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q4_1": (0, 2), "Q5_1": (0, 2)}
    for start in halves.get(type_name, (0,)):
        scales = random.standard_normal(blocks.shape[:2]).astype(np.float16)
        blocks[..., start : start + 2] = scales[..., None].view(np.uint8)
    return stored


@pytest.mark.parametrize("name", TYPES)
def test_the_device_reads_every_type_as_the_host_does(strict_device: Any, name: str) -> None:
    stored = random_rows(name)
    expected = dequantise(stored, GGML_TYPES_BY_NAME[name].number)
    np.testing.assert_array_equal(as_float32(np, stored, name), expected, strict=True)
    backend = choose_backend("cupy")
    on_device = backend.run(lambda: backend.to_host(as_float32(backend.xp, backend.to_device(stored), name)))
    np.testing.assert_array_equal(on_device, expected, strict=True)


@pytest.mark.gpu
@pytest.mark.parametrize("name", TYPES)
def test_a_real_device_reads_every_type_as_the_host_does(cuda_device: str, name: str) -> None:
    stored = random_rows(name, rows=64, width=4096)
    expected = dequantise(stored, GGML_TYPES_BY_NAME[name].number)
    backend = choose_backend(cuda_device)
    found = backend.run(lambda: backend.to_host(as_float32(backend.xp, backend.to_device(stored), name)))
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("panel_values", [1, 512 * 2, 1 << 24])
def test_it_multiplies_by_weights_of_several_types(
    strict_device: Any, monkeypatch: pytest.MonkeyPatch, panel_values: int
) -> None:
    """The rows of all of them one after the other, whatever the panels are."""
    monkeypatch.setattr(packed_weight, "PANEL_VALUES", panel_values)
    types = ["Q4_K", "Q4_K", "Q6_K", "F16"]
    stored = [(name, random_rows(name, seed=seed)) for seed, name in enumerate(types)]
    dense = np.concatenate([dequantise(rows, GGML_TYPES_BY_NAME[name].number) for name, rows in stored])
    columns = np.random.default_rng(0).standard_normal((512, 4), np.float32)
    backend = choose_backend("cupy")
    host = pack(stored, 512)
    assert [part.type_name for part in host.parts] == ["Q4_K", "Q6_K", "F16"]
    assert host.shape == (12, 512)

    def multiply() -> Any:
        weight = host.on(backend)
        assert weight.is_finite() and weight.nbytes == host.nbytes
        from_the_other_side = weight.matmul_transposed([backend.to_device(rows)])
        return backend.to_host(weight @ backend.to_device(columns)), backend.to_host(from_the_other_side)

    rows = np.random.default_rng(1).standard_normal((12, 4), np.float32)
    product, transposed = backend.run(multiply)
    assert np.linalg.norm(product - dense @ columns) < 1e-6 * np.linalg.norm(product)
    assert np.linalg.norm(transposed - dense.T @ rows) < 1e-6 * np.linalg.norm(transposed)


def test_float16_that_would_overflow_stays_float32() -> None:
    small = np.array([[1.0, -2.5], [65504.0, 1e-7]], np.float32)
    assert half_bytes(small)[0] == "F16"
    name, data = half_bytes(small * 2)
    assert name == "F32"
    np.testing.assert_array_equal(as_float32(np, data, name), small * 2)


def test_a_type_that_the_device_does_not_know_becomes_float16(
    tiny_base: Callable[..., Any], stored_base: Callable[..., Any]
) -> None:
    base = stored_base(tiny_base(width=32, heads=8, inner=32), "IQ4_NL")
    name, data = stored_bytes(base, "blk.0.ffn_up.weight")
    assert name == "F16"
    dense = base.dense("blk.0.ffn_up.weight")
    np.testing.assert_allclose(as_float32(np, data, name), dense, rtol=1e-3, atol=1e-6)
