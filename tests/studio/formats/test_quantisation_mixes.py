"""Mixes: which tensor gets which type. That they are llama-quantize's own choices is a test of the peers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from studio.contracts import TensorInfo
from studio.formats.quantisation_mixes import MIXES, mix_types

LAYERS = 16


def tensors(width: int = 256, *, tied: bool = True) -> dict[str, TensorInfo]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (64, width), "output_norm.weight": (width,)}
    if not tied:
        shapes["output.weight"] = (64, width)
    for layer in range(LAYERS):
        for target in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            shapes[f"blk.{layer}.{target}.weight"] = (32, width)
        shapes[f"blk.{layer}.attn_norm.weight"] = (width,)
        shapes[f"blk.{layer}.attn_q.bias"] = (32,)
    return {name: TensorInfo(name, shape, "F32", 0) for name, shape in shapes.items()}


def metadata(heads: int = 8, groups: int = 4, **more: Any) -> dict[str, Any]:
    return {
        "general.architecture": "llama",
        "llama.block_count": LAYERS,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": groups,
        **{f"llama.{key}": value for key, value in more.items()},
    }


def types(mix: str, found: Mapping[str, TensorInfo] | None = None, **more: Any) -> dict[str, str]:
    return mix_types(mix, found or tensors(), metadata(**more))


def layers_with(chosen: Mapping[str, str], target: str, type_name: str) -> list[int]:
    return [layer for layer in range(LAYERS) if chosen[f"blk.{layer}.{target}.weight"] == type_name]


def test_q4_k_m_gives_more_to_values_and_down_projections_here_and_there() -> None:
    chosen = types("Q4_K_M")
    more = [0, 1, 4, 7, 10, 13, 14, 15]  # the first and last eighths, and every third layer between
    assert layers_with(chosen, "attn_v", "Q6_K") == more
    assert layers_with(chosen, "ffn_down", "Q6_K") == more
    assert layers_with(chosen, "attn_q", "Q4_K") == list(range(LAYERS))
    assert chosen["token_embd.weight"] == "Q6_K"  # the output is tied to it


def test_norms_and_biases_stay_as_they_are() -> None:
    for mix in MIXES:
        chosen = types(mix)
        assert chosen["output_norm.weight"] == chosen["blk.3.attn_q.bias"] == "F32"


def test_an_output_of_its_own_leaves_the_embedding_the_plain_type() -> None:
    chosen = types("Q4_K_M", tensors(tied=False))
    assert (chosen["output.weight"], chosen["token_embd.weight"]) == ("Q6_K", "Q4_K")


@pytest.mark.parametrize(
    ("mix", "fallback"),
    [("Q4_K_S", "Q5_0"), ("Q5_K_S", "Q5_1"), ("Q6_K", "Q8_0"), ("IQ4_XS", "IQ4_NL"), ("Q3_K_S", "Q4_0")],
)
def test_rows_that_are_no_blocks_of_256_fall_back(mix: str, fallback: str) -> None:
    chosen = types(mix, tensors(width=96))
    assert chosen["blk.5.attn_q.weight"] == fallback
    assert chosen["token_embd.weight"] == "Q8_0"


def test_rows_that_are_no_blocks_at_all_become_f16() -> None:
    assert set(types("Q4_K_M", tensors(width=40)).values()) == {"F16", "F32"}


def test_values_that_many_heads_share_get_more_in_some_mixes() -> None:
    assert types("IQ4_XS", groups=2)["blk.9.attn_v.weight"] == "Q5_K"
    assert types("IQ4_XS", groups=4)["blk.9.attn_v.weight"] == "IQ4_XS"


def test_eight_experts_get_keys_and_values_in_q8_0() -> None:
    chosen = types("Q4_K_M", expert_count=8)
    assert chosen["blk.5.attn_k.weight"] == chosen["blk.5.attn_v.weight"] == "Q8_0"
    assert chosen["blk.5.attn_output.weight"] == "Q5_K"


@pytest.mark.parametrize("mix", ["F16", "BF16", "F32"])
def test_float_types_are_for_all_matrices(mix: str) -> None:
    chosen = types(mix, tensors(width=40))
    assert chosen["blk.0.ffn_up.weight"] == chosen["token_embd.weight"] == mix
