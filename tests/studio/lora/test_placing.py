"""Names, fused weights and rows: a file's factors find their place, and the delta stays what it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from studio.contracts import TensorInfo
from studio.errors import FormatError, MismatchError, UnsupportedError
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.dora import DoraAdapter
from studio.lora.fusing import NamedPair
from studio.lora.names import rows_to_gguf
from studio.lora.placing import Placement, place

PATH = Path("adapter")
WIDTH, KEYS, INNER = 16, 8, 24
APART = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (KEYS, WIDTH),
    "attn_v": (KEYS, WIDTH),
    "ffn_gate": (INNER, WIDTH),
    "ffn_up": (INNER, WIDTH),
    "ffn_down": (WIDTH, INNER),
}
FUSED = {"attn_qkv": (WIDTH + 2 * KEYS, WIDTH), "ffn_up": (2 * INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
HF = "model.layers.0."


def base_of(architecture: str, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """All of a base that placing looks at: names, shapes and head counts."""
    tensors = {
        name: TensorInfo(name, shape, "F32", 0)
        for target, shape in shapes.items()
        for name in [f"blk.0.{target}.weight"]
    }
    counts = {"attention.head_count": 4, "attention.head_count_kv": 2}
    metadata = {f"{architecture}.{key}": value for key, value in counts.items()}
    return SimpleNamespace(architecture=architecture, tensors=tensors, metadata=metadata)


def pair(rows: int, columns: int, rank: int = 2, alpha: float = 3.0, *, dora: bool = False) -> NamedPair:
    rng = np.random.default_rng([rows, columns, rank])
    return NamedPair(
        LoraFactors(
            rng.standard_normal((rank, columns), np.float32),
            rng.standard_normal((rows, rank), np.float32),
            alpha,
        ),
        rng.random(rows, np.float32) if dora else None,
    )


def dense(one: NamedPair) -> Any:
    return one.factors.scaling * one.factors.b.astype(np.float64) @ one.factors.a


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_parts_become_the_fused_weight() -> None:
    parts = {
        HF + "self_attn.q_proj": pair(WIDTH, WIDTH, 2, 4.0),
        HF + "self_attn.v_proj": pair(KEYS, WIDTH, 3, 6.0),
        HF + "mlp.gate_proj": pair(INNER, WIDTH, 1),
        HF + "mlp.up_proj": pair(INNER, WIDTH, 2),
    }
    placed = place(parts, base_of("phi3", FUSED), PATH)
    assert set(placed.pairs) == {"blk.0.attn_qkv.weight", "blk.0.ffn_up.weight"}
    q, v, gate, up = (dense(one) for one in parts.values())
    close(dense(placed.pairs["blk.0.attn_qkv.weight"]), np.vstack([q, np.zeros((KEYS, WIDTH)), v]))
    close(dense(placed.pairs["blk.0.ffn_up.weight"]), np.vstack([gate, up]))
    assert [finding.topic for finding in placed.findings] == ["fused"]


def test_the_fused_weight_becomes_parts_with_rows_in_order() -> None:
    qkv, up = pair(WIDTH + 2 * KEYS, WIDTH), pair(2 * INNER, WIDTH)
    whole = {HF + "self_attn.qkv_proj": qkv, HF + "mlp.gate_up_proj": up}
    placed = place(whole, base_of("llama", APART), PATH)
    q, k, v = np.split(dense(qkv), [WIDTH, WIDTH + KEYS])
    close(dense(placed.pairs["blk.0.attn_q.weight"]), rows_to_gguf(q, 4))
    close(dense(placed.pairs["blk.0.attn_k.weight"]), rows_to_gguf(k, 2))
    close(dense(placed.pairs["blk.0.attn_v.weight"]), v)
    gate, own_up = np.split(dense(up), 2)
    close(dense(placed.pairs["blk.0.ffn_gate.weight"]), gate)
    close(dense(placed.pairs["blk.0.ffn_up.weight"]), own_up)


def test_magnitudes_go_with_their_rows() -> None:
    qkv = pair(WIDTH + 2 * KEYS, WIDTH, dora=True)
    assert qkv.magnitude is not None
    placed = place({HF + "self_attn.qkv_proj": qkv}, base_of("llama", APART), PATH)
    found = placed.pairs["blk.0.attn_q.weight"].magnitude
    np.testing.assert_array_equal(found, rows_to_gguf(qkv.magnitude[:WIDTH, None], 4)[:, 0])
    assert isinstance(placed.adapter("a", source=PATH, format="x"), DoraAdapter)
    parts = {
        HF + f"self_attn.{letter}_proj": pair(rows, WIDTH, dora=True)
        for letter, rows in zip("qkv", (16, 8, 8), strict=True)
    }
    joined = place(parts, base_of("phi3", FUSED), PATH).pairs["blk.0.attn_qkv.weight"].magnitude
    assert joined is not None and joined.shape == (WIDTH + 2 * KEYS,)
    del parts[HF + "self_attn.k_proj"]
    with pytest.raises(UnsupportedError, match="some parts"):
        place(parts, base_of("phi3", FUSED), PATH)


def test_a_part_of_another_size_is_refused() -> None:
    with pytest.raises(MismatchError, match="has 10 rows, its part"):
        place({HF + "self_attn.k_proj": pair(10, WIDTH)}, base_of("phi3", FUSED), PATH)


def test_rows_go_with_names() -> None:
    """Under a GGUF name rows stand as in a GGUF base, under Hugging Face's and Meta's as PEFT has them."""
    base, query = base_of("llama", APART), pair(WIDTH, WIDTH)
    wanted = {
        "blk.0.attn_q": dense(query),
        "blk.0.attn_q.weight": dense(query),
        HF + "self_attn.q_proj": rows_to_gguf(dense(query), 4),
        HF + "self_attn.q_proj.weight": rows_to_gguf(dense(query), 4),
        "layers.0.attention.wq.weight": rows_to_gguf(dense(query), 4),
    }
    for name, delta in wanted.items():
        placed = place({name: query}, base, PATH)
        close(dense(placed.pairs["blk.0.attn_q.weight"]), delta)
        as_stored = place({name: query}, base, PATH, "as stored")
        close(dense(as_stored.pairs["blk.0.attn_q.weight"]), dense(query))


def test_single_experts_become_one_weight() -> None:
    names = [f"model.layers.0.mlp.experts.{index}.up_proj" for index in range(3)]
    placed = place({name: pair(INNER, WIDTH) for name in names}, base_of("qwen3moe", APART), PATH)
    assert placed.pairs["blk.0.ffn_up_exps.weight"].factors.shape == (3, INNER, WIDTH)


def test_without_a_base_names_are_a_llamas_and_rows_stay() -> None:
    query = pair(WIDTH, WIDTH)
    placed = place({HF + "self_attn.q_proj": query, "strange": query}, None, PATH)
    assert (list(placed.pairs), placed.unmapped) == (["blk.0.attn_q.weight"], ["strange"])
    adapter = placed.adapter("a", source=PATH, format="x")
    assert isinstance(adapter, Adapter) and adapter.rows_as_stored
    assert not place({"blk.0.attn_q": query}, None, PATH).rows_as_stored


@pytest.mark.parametrize(
    "names",
    [
        ("blk.0.attn_v", "blk.0.attn_v.weight"),
        ("blk.0.attn_v", HF + "self_attn.v_proj"),
        (HF + "self_attn.v_proj", "layers.0.attention.wv"),
    ],
)
def test_two_names_for_one_module_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(FormatError, match="two modules"):
        place(dict.fromkeys(names, pair(KEYS, WIDTH)), base_of("llama", APART), PATH)


def test_pairs_that_are_none_are_refused_before_anything_else() -> None:
    odd = NamedPair(LoraFactors(np.ones(3, np.float32), np.ones((2, 2), np.float32), 1.0))
    with pytest.raises(FormatError, match="no pair"):
        place({HF + "self_attn.qkv_proj": odd}, base_of("llama", APART), PATH)


def test_a_long_number_is_no_layer() -> None:
    name = f"model.layers.{'9' * 5000}.self_attn.v_proj"
    assert place({name: pair(KEYS, WIDTH)}, base_of("llama", APART), PATH) == Placement({}, [name])
