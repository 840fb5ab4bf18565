"""Module names taken apart: ``blk.3.attn_q.weight`` is the target ``attn_q`` in layer 3."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_IN_BLOCK = re.compile(r"blk\.(\d+)\.(.+)\.weight")

TARGET_ORDER = (
    "token_embd",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "ffn_gate_inp",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_down_exps",
    "ffn_gate_inp_shexp",
    "ffn_gate_shexp",
    "ffn_up_shexp",
    "ffn_down_shexp",
    "output",
)
"""The order in which a token meets the targets; others follow by name."""


def target_of(module: str) -> str:
    """Return the target: ``attn_q`` of ``blk.3.attn_q.weight``, ``output`` of ``output.weight``."""
    match = _IN_BLOCK.fullmatch(module)
    return match[2] if match else module.removesuffix(".weight")


def layer_of(module: str) -> int | None:
    """Return the layer of a module, or None for one outside the blocks."""
    match = _IN_BLOCK.fullmatch(module)
    return int(match[1]) if match else None


def module_name(target: str, layer: int | None = None) -> str:
    """Return the module's name for a target and its layer; None for one outside the blocks."""
    return f"{target}.weight" if layer is None else f"blk.{layer}.{target}.weight"


def targets_of(modules: Iterable[str]) -> tuple[str, ...]:
    """Return the different targets of some modules, in the order a token meets them."""
    known = {target: place for place, target in enumerate(TARGET_ORDER)}
    return tuple(
        sorted(
            {target_of(module) for module in modules}, key=lambda name: (known.get(name, len(known)), name)
        )
    )
