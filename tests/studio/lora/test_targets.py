"""Module names, apart and together."""

from __future__ import annotations

import pytest

from studio.lora.targets import layer_of, module_name, target_of, targets_of


@pytest.mark.parametrize(
    ("module", "target", "layer"),
    [
        ("blk.0.attn_q.weight", "attn_q", 0),
        ("blk.12.ffn_down.weight", "ffn_down", 12),
        ("token_embd.weight", "token_embd", None),
        ("output.weight", "output", None),
    ],
)
def test_a_module_is_its_target_and_its_layer(module: str, target: str, layer: int | None) -> None:
    assert (target_of(module), layer_of(module)) == (target, layer)
    assert module_name(target, layer) == module


def test_targets_come_in_the_order_a_token_meets_them() -> None:
    modules = [
        "output.weight",
        "blk.1.ffn_up.weight",
        "blk.0.zebra.weight",
        "blk.0.attn_q.weight",
        "blk.1.attn_q.weight",
    ]
    assert targets_of(modules) == ("attn_q", "ffn_up", "output", "zebra")
