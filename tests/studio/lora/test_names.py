"""Names and row order between Hugging Face and GGUF."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.contracts import MetadataValue
from studio.errors import FormatError, MismatchError, UnsupportedError
from studio.lora.names import gguf_module, rotated_heads, rows_to_gguf, rows_to_hugging_face


@pytest.mark.parametrize(
    ("hugging_face", "architecture", "gguf"),
    [
        ("model.layers.0.self_attn.q_proj", "llama", "blk.0.attn_q.weight"),
        ("model.layers.29.self_attn.o_proj", "llama", "blk.29.attn_output.weight"),
        ("base_model.model.model.layers.7.mlp.down_proj", "llama", "blk.7.ffn_down.weight"),
        ("base_model.model.layers.7.mlp.gate_proj", "llama", "blk.7.ffn_gate.weight"),
        ("model.embed_tokens", "llama", "token_embd.weight"),
        ("lm_head", "llama", "output.weight"),
        ("model.layers.3.self_attn.qkv_proj", "phi3", "blk.3.attn_qkv.weight"),
        ("model.layers.3.mlp.gate_up_proj", "phi3", "blk.3.ffn_up.weight"),
        ("transformer.h.2.attn.c_attn", "gpt2", "blk.2.attn_qkv.weight"),
        ("model.language_model.layers.4.self_attn.k_proj", "gemma3", "blk.4.attn_k.weight"),
        ("model.layers.3.self_attn.rotary", "llama", None),
        ("something.else", "llama", None),
    ],
)
def test_names(hugging_face: str, architecture: str, gguf: str | None) -> None:
    assert gguf_module(hugging_face, architecture) == gguf


def test_a_made_up_layer_number_costs_nothing() -> None:
    assert gguf_module("model.layers.999999999.mlp.up_proj", "llama") == "blk.999999999.ffn_up.weight"


def test_an_unknown_architecture_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="'warp'"):
        gguf_module("model.layers.0.self_attn.q_proj", "warp")


def test_rows_go_from_halves_to_pairs() -> None:
    """Two heads of four rows: Hugging Face rotates row 0 with row 2, GGUF row 0 with row 1."""
    rows = np.arange(8, dtype=np.float32)[:, None]
    assert rows_to_gguf(rows, heads=2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@given(heads=st.integers(1, 9), half=st.integers(1, 8), columns=st.integers(1, 3))
def test_reordering_there_and_back_changes_nothing(heads: int, half: int, columns: int) -> None:
    rows = np.random.default_rng(0).standard_normal((heads * 2 * half, columns), dtype=np.float32)
    np.testing.assert_array_equal(rows_to_hugging_face(rows_to_gguf(rows, heads), heads), rows)
    np.testing.assert_array_equal(rows_to_gguf(rows_to_hugging_face(rows, heads), heads), rows)


def test_rows_that_do_not_divide_into_heads_are_refused() -> None:
    with pytest.raises(MismatchError, match="10 rows do not divide into 3 heads"):
        rows_to_gguf(np.zeros((10, 1), dtype=np.float32), heads=3)


def metadata(architecture: str, **counts: MetadataValue) -> dict[str, MetadataValue]:
    return {f"{architecture}.attention.{key}": value for key, value in counts.items()}


@pytest.mark.parametrize(
    ("module", "architecture", "heads"),
    [
        ("blk.0.attn_q.weight", "llama", 9),
        ("blk.0.attn_k.weight", "llama", 3),
        ("blk.0.attn_v.weight", "llama", None),
        ("blk.0.attn_output.weight", "llama", None),
        ("blk.0.attn_q.weight", "granite", 9),
        ("blk.0.attn_q.weight", "granitemoe", 9),
        ("blk.0.attn_k.weight", "smollm3", 3),
        ("blk.0.attn_q.weight", "qwen2", None),
        ("blk.0.attn_k.weight", "gemma3", None),
        ("blk.0.attn_qkv.weight", "phi3", None),
        ("blk.0.attn_q.weight", "llama4", None),
    ],
)
def test_which_rows_are_reordered(module: str, architecture: str, heads: int | None) -> None:
    counts = metadata(architecture, head_count=9, head_count_kv=3)
    assert rotated_heads(module, architecture, counts) == heads


def test_without_key_heads_of_their_own_keys_have_the_querys() -> None:
    assert rotated_heads("blk.0.attn_k.weight", "llama", metadata("llama", head_count=9)) == 9


def test_head_counts_may_differ_by_layer() -> None:
    counts = metadata("llama", head_count=np.array([4, 8], dtype=np.int32))
    assert rotated_heads("blk.1.attn_q.weight", "llama", counts) == 8


@pytest.mark.parametrize("count", [0, -1, "nine", True, np.array([], dtype=np.int32)])
def test_a_head_count_that_is_no_use_is_refused_by_key(count: MetadataValue) -> None:
    with pytest.raises(FormatError) as caught:
        rotated_heads("blk.1.attn_q.weight", "llama", metadata("llama", head_count=count))
    assert caught.value.where == "llama.attention.head_count"
