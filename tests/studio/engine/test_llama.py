"""The llama forward pass against one written out plainly in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Gains
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine

Array = np.ndarray[Any, np.dtype[np.float64]]
TOKENS = [3, 17, 0, 39, 5, 5, 21]


def plain_forward(base: Any, tokens: list[int], deltas: Mapping[str, Array] | None = None) -> Array:
    """Return the logits ``[T, V]`` of a llama whose weights are W + delta, position by position.

    An embedding's delta changes the look-up alone and a head's the head alone, even if they share a weight.
    """
    read = base.metadata

    def tensor(name: str) -> Array:
        weight: Array = base.arrays[name].astype(np.float64)
        return weight + deltas[name] if deltas and name in deltas else weight

    def bias(name: str) -> Array | float:
        return tensor(name) if name in base.arrays else 0.0

    def norm(x: Array, weight: Array) -> Array:
        mean_square = float((x**2).mean())
        return x / math.sqrt(mean_square + read["llama.attention.layer_norm_rms_epsilon"]) * weight

    heads, groups = read["llama.attention.head_count"], read["llama.attention.head_count_kv"]
    size = read.get("llama.attention.key_length", read["llama.embedding_length"] // heads)
    rotated = read.get("llama.rope.dimension_count", size)
    frequencies = np.array([read["llama.rope.freq_base"] ** (-2 * i / rotated) for i in range(rotated // 2)])
    if "rope_freqs.weight" in base.arrays:
        frequencies = frequencies / tensor("rope_freqs.weight")
    if read.get("llama.rope.scaling.type") == "linear":
        frequencies = frequencies / read["llama.rope.scaling.factor"]

    def rotate(head: Array, position: int) -> Array:
        """Turn pairs of neighbours as complex numbers."""
        pairs = (head[0:rotated:2] + 1j * head[1:rotated:2]) * np.exp(1j * position * frequencies)
        return np.concatenate([np.stack([pairs.real, pairs.imag], axis=1).ravel(), head[rotated:]])

    keys: dict[int, list[Array]] = {}
    values: dict[int, list[Array]] = {}
    logits = []
    for position, token in enumerate(tokens):
        x = tensor("token_embd.weight")[token]
        for layer in range(read["llama.block_count"]):
            block = f"blk.{layer}"
            h = norm(x, tensor(f"{block}.attn_norm.weight"))
            q = (tensor(f"{block}.attn_q.weight") @ h + bias(f"{block}.attn_q.bias")).reshape(heads, size)
            k = (tensor(f"{block}.attn_k.weight") @ h).reshape(groups, size)
            v = (tensor(f"{block}.attn_v.weight") @ h + bias(f"{block}.attn_v.bias")).reshape(groups, size)
            keys.setdefault(layer, []).append(np.stack([rotate(head, position) for head in k]))
            values.setdefault(layer, []).append(v)
            outputs = []
            for index, head in enumerate(q):
                group = index * groups // heads
                scores = np.array([rotate(head, position) @ key[group] for key in keys[layer]]) / np.sqrt(
                    size
                )
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                outputs.append(sum(w * value[group] for w, value in zip(weights, values[layer], strict=True)))
            x = x + tensor(f"{block}.attn_output.weight") @ np.concatenate(outputs)
            h = norm(x, tensor(f"{block}.ffn_norm.weight"))
            gate = tensor(f"{block}.ffn_gate.weight") @ h
            up = tensor(f"{block}.ffn_up.weight") @ h
            x = x + tensor(f"{block}.ffn_down.weight") @ (gate / (1 + np.exp(-gate)) * up)
        h = norm(x, tensor("output_norm.weight"))
        head_name = "output.weight" if "output.weight" in base.arrays else "token_embd.weight"
        head_delta = deltas.get("output.weight", 0.0) if deltas else 0.0
        logits.append((base.arrays[head_name].astype(np.float64) + head_delta) @ h)
    return np.array(logits)


def relative_error(actual: Any, expected: Any) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param({}, id="grouped and tied"),
        pytest.param({"groups": 6, "tied": False}, id="a key for each head, a head of its own"),
        pytest.param({"groups": 1}, id="one key for all heads"),
        pytest.param({"head_size": 8}, id="heads wider than the model"),
        pytest.param({"rope__dimension_count": 2}, id="half of a head rotated"),
        pytest.param({"rope_factors": True}, id="rope factors"),
        pytest.param(
            {"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, id="linear rope scaling"
        ),
        pytest.param({"biased": True}, id="biases"),
    ],
)
def test_all_logits_match_a_plain_forward_pass(tiny_base: Callable[..., Any], shape: dict[str, Any]) -> None:
    base = tiny_base(**shape)
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    logits = engine.evaluate(TOKENS, BASE_ALONE, positions="all").logits
    assert logits.dtype == np.float32
    assert relative_error(logits, plain_forward(base, TOKENS)) < 3e-6


ALL_MODULES = [
    f"blk.1.{target}.weight"
    for target in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
]


@pytest.mark.parametrize(
    "modules",
    [*([module] for module in ALL_MODULES), ["token_embd.weight"], ["output.weight"], ALL_MODULES],
    ids=lambda modules: modules[0] if len(modules) == 1 else "all",
)
@pytest.mark.parametrize("tied", [True, False])
def test_adapters_act_like_weights_with_their_deltas_added(
    tiny_base: Callable[..., Any], tiny_adapter: Callable[..., Any], modules: list[str], tied: bool
) -> None:
    base = tiny_base(tied=tied)
    first = tiny_adapter(base, modules, rank=3, seed=1)
    second = tiny_adapter(base, [modules[-1], "blk.0.attn_v.weight"], rank=2, seed=2)
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach({"a": first, "b": second})
    heard = BlendChannel("a", 1, 0.8, Gains.of({modules[0]: -1.3, "blk.1.attn_k.weight": 0.0}))
    other = BlendChannel("b", 1, -1.5, Gains.of({"blk.0.attn_v.weight": 0.4, "blk.9.attn_v.weight": 5.0}))
    state = BlendState((heard, other))

    deltas: dict[str, Array] = {}
    for adapter, channel in ((first, heard), (second, other)):
        for module, factors in adapter.factors.items():
            delta = channel.scale_of(module) * factors.scaling * (factors.b.astype(np.float64) @ factors.a)
            deltas[module] = deltas.get(module, 0.0) + delta
    expected = plain_forward(base, TOKENS, deltas)
    assert relative_error(plain_forward(base, TOKENS), expected) > 1e-2
    assert relative_error(engine.evaluate(TOKENS, state, positions="all").logits, expected) < 3e-6
