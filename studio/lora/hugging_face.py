"""Hugging Face's names for the weights of a GGUF model, where its architecture is one of those below.

It is `gguf_module` backwards: many names of Hugging Face's have one in GGUF, so the way back needs a table.
Source: transformers, ``models/<architecture>/modeling_<architecture>.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from studio.contracts import DeltaPart
from studio.errors import UnsupportedError
from studio.lora.names import rotated_heads, rows_to_hugging_face
from studio.lora.targets import layer_of, target_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import BaseModel


def _frozen(*parts: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType({key: value for part in parts for key, value in part.items()})


_ATTENTION = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_FEED_FORWARD = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_NORMS_AFTER = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_NORMS_AROUND = {
    "attn_norm": "input_layernorm",
    **_NORMS_AFTER,
    "ffn_norm": "pre_feedforward_layernorm",
}
_EXPERTS = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.gate_proj",
    "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
}
_SHARED_EXPERT = {
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_LLAMA = _frozen(_NORMS, _ATTENTION, _FEED_FORWARD)


@dataclass(frozen=True)
class HuggingFaceNames:
    """The names of one architecture.

    Attributes
    ----------
    blocks
        By target, such as ``attn_q``: the name inside a layer.
    layers
        What stands before that, with the layer's number in the braces.
    outside
        The names of what is in no layer.
    """

    blocks: Mapping[str, str]
    layers: str = "model.layers.{}."
    outside: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType(
            {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
        )
    )


NAMES: Mapping[str, HuggingFaceNames] = MappingProxyType(
    {
        "llama": HuggingFaceNames(_frozen(_LLAMA, _EXPERTS)),
        "qwen2": HuggingFaceNames(_LLAMA),
        "qwen3": HuggingFaceNames(_frozen(_LLAMA, _HEAD_NORMS)),
        "qwen2moe": HuggingFaceNames(_frozen(_LLAMA, _EXPERTS, _SHARED_EXPERT)),
        "qwen3moe": HuggingFaceNames(_frozen(_LLAMA, _HEAD_NORMS, _EXPERTS)),
        "gemma2": HuggingFaceNames(_frozen(_NORMS_AROUND, _ATTENTION, _FEED_FORWARD)),
        "gemma3": HuggingFaceNames(_frozen(_NORMS_AROUND, _ATTENTION, _HEAD_NORMS, _FEED_FORWARD)),
        "granite": HuggingFaceNames(_LLAMA),
        "olmo2": HuggingFaceNames(_frozen(_NORMS_AFTER, _ATTENTION, _HEAD_NORMS, _FEED_FORWARD)),
        "stablelm": HuggingFaceNames(_LLAMA),
        "phi3": HuggingFaceNames(
            _frozen(
                _NORMS,
                {"attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj"},
                {"ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"},
            )
        ),
        "starcoder2": HuggingFaceNames(
            _frozen(_NORMS, _ATTENTION, {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"})
        ),
        "gpt2": HuggingFaceNames(
            _frozen(
                {"attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj"},
                {"ffn_norm": "ln_2", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
            ),
            layers="transformer.h.{}.",
            outside=_frozen(
                {"token_embd": "transformer.wte", "position_embd": "transformer.wpe"},
                {"output_norm": "transformer.ln_f", "output": "lm_head"},
            ),
        ),
    }
)
"""By the value of ``general.architecture``."""


def hugging_face_module(module: str, architecture: str) -> str | None:
    """Return the Hugging Face module of a GGUF weight; None where the architecture has none of this name.

    Parameters
    ----------
    module
        Such as ``blk.3.attn_q.weight``. The weight of all experts of a layer is named without their numbers:
        ``model.layers.3.mlp.experts.up_proj``.
    architecture
        A GGUF architecture, such as ``llama``.

    Raises
    ------
    UnsupportedError
        The architecture's names are not known.
    """
    names = NAMES.get(architecture)
    if names is None:
        raise UnsupportedError(
            f"Hugging Face's module names of architecture {architecture!r} are not known",
            remedy=f"Export as a stacked adapter (GGUF); known ones are {', '.join(sorted(NAMES))}",
        )
    layer, target = layer_of(module), target_of(module)
    if layer is None:
        return names.outside.get(target)
    inside = names.blocks.get(target)
    return None if inside is None else names.layers.format(layer) + inside


def in_hugging_face_form(
    part: DeltaPart, module: str, base: BaseModel, *, keep_rows: bool = False
) -> tuple[str, DeltaPart]:
    """Return a module's name in Hugging Face's model, and its factors with the rows in the order of there.

    Parameters
    ----------
    part
        The factors as the base has them.
    module
        The GGUF weight name.
    base
        Whose architecture and head counts count.
    keep_rows
        Leave the rows of Q and K as they are, for bases whose converter did.

    Raises
    ------
    UnsupportedError
        The architecture is not known, or has no such module at Hugging Face's.
    FormatError
        The base lacks a usable head count.
    """
    name = hugging_face_module(module, base.architecture)
    if name is None:
        raise UnsupportedError(
            f"Hugging Face's {base.architecture} has no module for it",
            where=module,
            remedy="Export as a stacked adapter (GGUF)",
        )
    heads = None if keep_rows else rotated_heads(module, base.architecture, base.metadata)
    if heads is not None:
        part = DeltaPart(part.a, rows_to_hugging_face(part.b, heads), part.scale)
    return name, part
