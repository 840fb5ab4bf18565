"""Starcoder2's window, which files leave out, and gpt2's learned positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.models import model_for
from studio.errors import FormatError
from studio.formats.gguf_file import GgufFile

FOLDER = Path(__file__).parents[2] / "data" / "architectures"
TOKENS = [7, 200, 31, 31, 90]


@pytest.fixture
def opened(memory_base: Callable[..., Any]) -> Callable[[str], Any]:
    """Read a fixture into memory, where its metadata can be changed."""

    def open_base(name: str) -> Any:
        file = GgufFile.open(FOLDER / f"{name}.gguf")
        base = memory_base(dict(file.metadata), {tensor: file.dense(tensor) for tensor in file.tensors})
        file.close()
        return base

    return open_base


def all_logits(base: Any, tokens: list[int]) -> Any:
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    return engine.evaluate(tokens, BASE_ALONE, positions="all").logits


def test_a_window_of_one_position_sees_nothing_before_it(opened: Callable[[str], Any]) -> None:
    base = opened("starcoder2")
    base.metadata["starcoder2.attention.sliding_window"] = 1
    alone = np.concatenate([all_logits(base, [token]) for token in TOKENS])
    np.testing.assert_allclose(all_logits(base, TOKENS), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("value", "window"), [(None, 4096), (8, 8), (0, None)])
def test_starcoder2_has_a_window_unless_the_file_says_otherwise(
    opened: Callable[[str], Any], value: int | None, window: int | None
) -> None:
    base = opened("starcoder2")
    if value is not None:
        base.metadata["starcoder2.attention.sliding_window"] = value
    assert model_for(base).windows == [window, window]  # type: ignore[attr-defined]


def test_gpt2_has_no_window(opened: Callable[[str], Any]) -> None:
    assert model_for(opened("gpt2")).windows == [None, None]  # type: ignore[attr-defined]


def test_the_same_token_differs_by_its_position_in_gpt2(opened: Callable[[str], Any]) -> None:
    base = opened("gpt2")
    first, second = all_logits(base, [31, 31])
    assert np.abs(first - second).max() > 0.01
    base.arrays["position_embd.weight"][:] = 0
    first, second = all_logits(base, [31, 31])
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_a_context_of_another_length_than_the_positions_is_named(opened: Callable[[str], Any]) -> None:
    base = opened("gpt2")
    base.metadata["gpt2.context_length"] = 256
    with pytest.raises(FormatError) as caught:
        model_for(base)
    assert caught.value.where == "gpt2.context_length"


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("stablelm", "blk.0.attn_norm.bias"),
        ("stablelm-parallel", "blk.1.attn_k_norm.weight"),
        ("starcoder2", "output_norm.bias"),
        ("gpt2", "position_embd.weight"),
        ("olmo2", "blk.1.post_ffw_norm.weight"),
    ],
)
def test_a_missing_tensor_is_named(opened: Callable[[str], Any], name: str, tensor: str) -> None:
    base = opened(name)
    del base.arrays[tensor]
    with pytest.raises(FormatError, match="the tensor is missing") as caught:
        model_for(base)
    assert caught.value.where == tensor
