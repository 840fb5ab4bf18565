"""A new adapter for a base."""

from __future__ import annotations

import math

import numpy as np
import pytest

from studio.errors import MismatchError, StudioError
from studio.formats.gguf_file import GgufFile
from studio.lora.creation import create_adapter
from studio.lora.report import bind


def test_by_default_it_adapts_queries_and_values(smollm2: GgufFile) -> None:
    adapter = create_adapter(smollm2)
    assert adapter.trainable
    assert adapter.format == "trainable"
    assert adapter.architecture == "llama"
    assert (adapter.ranks, adapter.alpha) == ((16,), 32.0)
    assert adapter.n_weights == 60
    assert {module.split(".", 2)[2] for module in adapter.modules} == {"attn_q.weight", "attn_v.weight"}
    assert bind(adapter, smollm2)[0] is adapter  # it fits its base as it is


def test_it_changes_nothing_until_it_is_trained(smollm2: GgufFile) -> None:
    adapter = create_adapter(smollm2, rank=4, targets=["ffn_down"], seed=1)
    inputs = np.random.default_rng(0).standard_normal((3, 1536), dtype=np.float32)
    delta = adapter.delta("blk.7.ffn_down.weight", inputs)
    assert delta is not None and delta.shape == (3, 576) and not delta.any()
    assert adapter.get_weight("blk.7.ffn_down.weight", "a").value.any()


def test_a_seed_makes_it_again(smollm2: GgufFile) -> None:
    first, again, other = (
        create_adapter(smollm2, rank=2, start="normal", seed=seed)
        .get_weight("blk.0.attn_q.weight", "a")
        .value
        for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.std() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("rank", [0, -1, 257])
def test_a_rank_out_of_range_is_refused(smollm2: GgufFile, rank: int) -> None:
    with pytest.raises(StudioError, match="from 1 to 256"):
        create_adapter(smollm2, rank=rank)


@pytest.mark.parametrize("rank", [1, 256])
def test_the_ends_of_the_range_are_taken(smollm2: GgufFile, rank: int) -> None:
    assert create_adapter(smollm2, rank=rank, targets=["attn_k"]).ranks == (rank,)


@pytest.mark.parametrize("alpha", [-1.0, math.nan, math.inf])
def test_an_alpha_that_makes_no_sense_is_refused(smollm2: GgufFile, alpha: float) -> None:
    with pytest.raises(StudioError, match="alpha"):
        create_adapter(smollm2, alpha=alpha)


@pytest.mark.parametrize(("targets", "says"), [(["attn_q", "q_proj"], "has no q_proj"), ([], "no targets")])
def test_targets_that_the_base_lacks_are_named(smollm2: GgufFile, targets: list[str], says: str) -> None:
    with pytest.raises(MismatchError, match=f"{says}.*attn_q, attn_k"):
        create_adapter(smollm2, targets=targets)


def test_a_rank_stabilised_adapter_scales_by_the_root_of_its_rank(smollm2: GgufFile) -> None:
    adapter = create_adapter(smollm2, rank=16, alpha=8.0, targets=["attn_q"], rank_stabilised=True)
    assert adapter.factors["blk.0.attn_q.weight"].scaling == 2.0
    assert adapter.with_factors(adapter.factors).trainable
