"""The deltas of an export, held against float64 products."""

import numpy as np
import pytest

from studio.contracts import BlendChannel, BlendState, DeltaPart, Gains
from studio.errors import UnsupportedError
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.combining import concatenate, dense_delta, module_parts

MODULE = "blk.0.attn_q.weight"


def _adapter(seed: int, rank: int, alpha: float) -> Adapter:
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((rank, 6)), random.standard_normal((5, rank))
    return Adapter(
        f"adapter {seed}", {MODULE: LoraFactors(a.astype(np.float32), b.astype(np.float32), alpha)}
    )


def test_parts_take_scale_gain_and_the_adapters_own_scaling() -> None:
    adapters = {"one": _adapter(1, 2, 8), "two": _adapter(2, 3, 3), "three": _adapter(3, 3, 3)}
    state = BlendState(
        (
            BlendChannel("one", adapters["one"].version, 0.5, Gains.of({MODULE: 2})),
            BlendChannel("two", adapters["two"].version, -1),
            BlendChannel("three", adapters["three"].version, 1, Gains.of({MODULE: 0})),
        )
    )
    parts = module_parts(MODULE, adapters, state)
    assert [part.scale for part in parts] == [0.5 * 2 * 8 / 2, -1]
    assert module_parts("blk.1.attn_q.weight", adapters, state) == ()


def test_side_by_side_factors_are_the_sum_of_the_deltas() -> None:
    random = np.random.default_rng(4)
    for shape in ((), (3,)):  # one weight, and one of three experts
        parts = [
            DeltaPart(
                random.standard_normal((*shape, rank, 6)).astype(np.float32),
                random.standard_normal((*shape, 5, rank)).astype(np.float32),
                scale,
            )
            for rank, scale in ((2, 0.5), (4, -3.0))
        ]
        expected = sum(part.scale * part.b.astype(np.float64) @ part.a for part in parts)
        delta = dense_delta(concatenate(parts))
        assert np.linalg.norm(delta - expected) < 1e-6 * np.linalg.norm(expected)


def test_an_adapter_without_factors_cannot_be_exported() -> None:
    class Opaque:
        name, version, modules = "opaque", 1, (MODULE,)

        def delta(self, module: str, inputs: np.ndarray) -> None:
            return None

    with pytest.raises(UnsupportedError, match=r"opaque shows no low-rank factors"):
        module_parts(MODULE, {"opaque": Opaque()}, BlendState((BlendChannel("opaque", 1, 1.0),)))


def test_equal_gains_are_equal_values() -> None:
    assert Gains.of({"b": 2, "a": 0.5, "c": 1}) == Gains.of({"a": 0.5, "b": 2})
    assert hash(Gains.of({"a": 1})) == hash(Gains())
