"""An adapter holds checked factors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import LowRankAdapter
from studio.errors import FormatError, MismatchError, StudioError
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.parameter import Parameter

Q = "blk.0.attn_q.weight"
EXPERTS = "blk.0.ffn_up_exps.weight"


def factors(rank: int = 2, alpha: float = 4.0, rank_stabilised: bool = False) -> LoraFactors:
    rng = np.random.default_rng(rank)
    a, b = rng.standard_normal((rank, 5)), rng.standard_normal((3, rank))
    return LoraFactors(a.astype(np.float32), b.astype(np.float32), alpha, rank_stabilised)


def test_scaling_is_alpha_over_rank() -> None:
    assert factors(rank=4, alpha=8).scaling == 2


def test_rank_stabilised_scaling_is_alpha_over_the_root_of_the_rank() -> None:
    assert factors(rank=4, alpha=8, rank_stabilised=True).scaling == 4


def test_delta_is_scaling_times_b_a_x() -> None:
    pair = factors()
    x = np.ones((7, 5), dtype=np.float32)
    delta = Adapter("pirate", {Q: pair}).delta(Q, x)
    assert delta is not None
    np.testing.assert_allclose(delta, x @ (pair.scaling * pair.b @ pair.a).T, rtol=1e-5, atol=1e-5)


def test_experts_take_a_block_of_inputs_each() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 2, 5)), rng.standard_normal((4, 3, 2))
    pair = LoraFactors(a.astype(np.float32), b.astype(np.float32), alpha=4)
    adapter = Adapter("pirate", {EXPERTS: pair})
    x = rng.standard_normal((4, 7, 5)).astype(np.float32)
    delta = adapter.delta(EXPERTS, x)
    assert delta is not None
    assert (pair.shape, pair.scaling) == ((4, 3, 5), 2)
    np.testing.assert_allclose(delta, np.einsum("eor,eri,eti->eto", 2 * b, a, x), rtol=1e-4, atol=1e-4)
    with pytest.raises(MismatchError, match="4 experts"):
        adapter.delta(EXPERTS, x[0])


def test_a_module_it_lacks_has_no_delta_and_rank_0() -> None:
    adapter = Adapter("pirate", {Q: factors()})
    assert adapter.delta("blk.1.attn_q.weight", np.ones(5, dtype=np.float32)) is None
    assert adapter.rank("blk.1.attn_q.weight") == 0
    assert adapter.rank(Q) == 2


def test_it_satisfies_the_protocol_of_low_rank_adapters() -> None:
    assert isinstance(Adapter("pirate", {Q: factors()}), LowRankAdapter)


def test_no_two_adapters_share_a_version() -> None:
    assert Adapter("pirate", {Q: factors()}).version != Adapter("pirate", {Q: factors()}).version


def test_replacing_factors_changes_the_version_and_no_mapping_handed_out() -> None:
    adapter = Adapter("pirate", {Q: factors()})
    before, version = adapter.factors, adapter.version
    adapter.replace(Q, factors(rank=3))
    assert adapter.version != version
    assert (before[Q].rank, adapter.rank(Q)) == (2, 3)


def test_factors_cannot_be_written_behind_its_back() -> None:
    with pytest.raises(ValueError, match="read-only"):
        factors().a[0, 0] = 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 5), (3, 3)),
        ((5,), (3, 5)),
        ((0, 5), (3, 0)),
        ((2, 5), (3, 2, 1)),
        ((4, 2, 5), (3, 2)),
        ((4, 2, 5), (3, 3, 2)),
    ],
    ids=["ranks differ", "A is no matrix", "rank 0", "B is no matrix", "B has no experts", "experts differ"],
)
def test_what_is_no_pair_is_refused_by_module(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    pair = LoraFactors(np.zeros(a, dtype=np.float32), np.zeros(b, dtype=np.float32), 1)
    with pytest.raises(FormatError, match="no pair") as caught:
        Adapter("pirate", {Q: pair}, source=Path("pirate.gguf"))
    assert caught.value.where == Q
    assert caught.value.path == Path("pirate.gguf")


@pytest.mark.parametrize("alpha", [math.nan, math.inf, -1.0])
def test_an_alpha_that_is_no_number_from_0_is_refused(alpha: float) -> None:
    with pytest.raises(FormatError, match="alpha"):
        Adapter("pirate", {Q: factors(alpha=alpha)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_listed_by_tensor(value: float) -> None:
    pair = factors()
    b = pair.b.copy()
    b[1, 1] = value
    with pytest.raises(FormatError, match=r"NaN or infinity in blk\.0\.attn_q\.weight \(B\)"):
        Adapter("pirate", {Q: LoraFactors(pair.a, b, 1), "blk.0.attn_k.weight": pair})


def test_it_tells_its_modules_and_their_weights() -> None:
    adapter = Adapter("pirate", {Q: factors(), "blk.0.attn_k.weight": factors(3)})
    assert adapter.layer_names == ("blk.0.attn_k.weight", Q)
    assert adapter.modules == (Q, "blk.0.attn_k.weight")
    assert (adapter.n_weights, adapter.has_layer(Q), adapter.has_layer("blk.1.attn_q.weight")) == (
        2,
        True,
        False,
    )
    assert adapter.get_weight(Q, "a").value is adapter.factors[Q].a
    assert adapter.get_weight(Q, "b").value is adapter.factors[Q].b
    with pytest.raises(MismatchError, match=r"blk\.1\.attn_q\.weight: pirate has no such module"):
        adapter.get_weight("blk.1.attn_q.weight", "a")


def test_each_weight_has_room_for_its_gradient() -> None:
    adapter = Adapter("pirate", {Q: factors()})
    assert isinstance(adapter.get_weight(Q, "b"), Parameter)
    adapter.get_weight(Q, "b").gradient[...] += 2
    assert (adapter.get_weight(Q, "b").gradient == 2).all()
    assert adapter.get_weight(Q, "a").gradient.shape == adapter.factors[Q].a.shape
    assert not adapter.get_weight(Q, "a").gradient.any()
    adapter.replace(Q, factors())
    assert not adapter.get_weight(Q, "b").gradient.any()  # of another value


def test_alpha_is_set_for_all_modules_and_changes_the_version() -> None:
    adapter = Adapter("pirate", {Q: factors(alpha=4), "blk.0.attn_k.weight": factors(alpha=8)})
    before, version = adapter.factors, adapter.version
    with pytest.raises(StudioError, match="no single alpha: 4, 8"):
        _ = adapter.alpha
    adapter.alpha = 16.0
    assert adapter.alpha == 16
    assert adapter.version != version
    assert [pair.scaling for pair in adapter.factors.values()] == [8, 8]
    assert before[Q].alpha == 4
    with pytest.raises(StudioError, match="alpha is -1.0"):
        adapter.alpha = -1.0
    assert adapter.alpha == 16


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 7, 5)])
def test_a_delta_is_added_to_outputs_in_place(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape, dtype=np.float32)
    outputs = rng.standard_normal((*shape[:-1], 3), dtype=np.float32)
    pair, before = factors(), outputs.astype(np.float64)
    assert pair.apply(x, outputs, scale=-0.5) is outputs
    expected = before + x.astype(np.float64) @ (-0.5 * pair.scaling * pair.b.astype(np.float64) @ pair.a).T
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (np.ones((7, 4), np.float32), np.ones((7, 3), np.float32)),
        (np.ones((7, 5), np.float32), np.ones((7, 4), np.float32)),
        (np.ones((7, 5), np.float32), np.ones((6, 3), np.float32)),
        (np.ones((7, 5), np.float32), np.ones((7, 3), np.float64)),
        (np.float32(1), np.ones(3, np.float32)),
    ],
)
def test_what_a_delta_cannot_be_added_to_is_refused_unchanged(inputs: Any, outputs: Any) -> None:
    with pytest.raises(MismatchError):
        factors().apply(inputs, outputs)
    assert (outputs == 1).all()
