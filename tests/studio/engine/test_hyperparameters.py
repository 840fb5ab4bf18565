"""Hyperparameters that cannot be right are refused by their key before any weight is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.engine.models import model_for
from studio.errors import FormatError, UnsupportedError

MISSING = object()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_count", 10**6),
        ("block_count", 1),
        ("block_count", 0),
        ("block_count", MISSING),
        ("block_count", "two"),
        ("block_count", True),
        ("attention.head_count", 0),
        ("attention.head_count", MISSING),
        ("attention.head_count_kv", 4),
        ("attention.head_count_kv", 1),
        ("attention.layer_norm_rms_epsilon", float("nan")),
        ("attention.layer_norm_rms_epsilon", 0.0),
        ("attention.layer_norm_rms_epsilon", "small"),
        ("attention.layer_norm_rms_epsilon", MISSING),
        ("attention.key_length", 8),
        ("context_length", 0),
        ("context_length", 2**40),
        ("context_length", MISSING),
        ("embedding_length", 48),
        ("feed_forward_length", 21),
        ("rope.dimension_count", 3),
        ("rope.dimension_count", 6),
        ("rope.freq_base", -1.0),
        ("vocab_size", 41),
    ],
)
def test_a_wrong_value_is_named_by_its_key(tiny_base: Callable[..., Any], key: str, value: Any) -> None:
    base = tiny_base()
    if value is MISSING:
        del base.metadata[f"llama.{key}"]
    else:
        base.metadata[f"llama.{key}"] = value
    base.dense = lambda name: pytest.fail(f"{name} was read")
    with pytest.raises(FormatError) as caught:
        model_for(base)
    assert caught.value.where == f"llama.{key}"
    assert caught.value.path == base.path


@pytest.mark.parametrize("heads", [5, 12])
def test_head_counts_that_disagree_are_named(tiny_base: Callable[..., Any], heads: int) -> None:
    base = tiny_base()
    base.metadata["llama.attention.head_count"] = heads
    with pytest.raises(FormatError, match="llama.attention.head_count"):
        model_for(base)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope.scaling.type", "longrope"),
        ("attention.value_length", 2),
        ("attention.head_count_kv", np.array([2, 1])),
    ],
)
def test_what_the_engine_lacks_is_refused_by_name(
    tiny_base: Callable[..., Any], key: str, value: Any
) -> None:
    base = tiny_base()
    base.metadata[f"llama.{key}"] = value
    with pytest.raises(UnsupportedError) as caught:
        model_for(base)
    assert caught.value.where == f"llama.{key}"


def test_a_missing_tensor_is_named(tiny_base: Callable[..., Any]) -> None:
    base = tiny_base()
    del base.arrays["blk.1.ffn_gate.weight"]
    with pytest.raises(FormatError, match="blk.1.ffn_gate.weight: the tensor is missing"):
        model_for(base)


def test_a_tensor_of_other_dimensions_is_named(tiny_base: Callable[..., Any]) -> None:
    base = tiny_base()
    base.arrays["output_norm.weight"] = np.ones((2, 12), np.float32)
    with pytest.raises(FormatError, match="output_norm.weight: it has 2 dimensions, not 1"):
        model_for(base)


def test_a_tensor_without_use_is_not_ignored(tiny_base: Callable[..., Any]) -> None:
    base = tiny_base()
    base.arrays["blk.0.attn_q_norm.weight"] = np.ones(4, np.float32)
    with pytest.raises(UnsupportedError, match="blk.0.attn_q_norm.weight"):
        model_for(base)


def test_older_files_scale_rope_by_another_key(tiny_base: Callable[..., Any]) -> None:
    new = model_for(tiny_base(rope__scaling__type="linear", rope__scaling__factor=4.0))
    old = model_for(tiny_base(rope__scale_linear=4.0))
    np.testing.assert_array_equal(old.rope.frequencies, new.rope.frequencies)  # type: ignore[attr-defined]
