"""``config.json`` of a Hugging Face model, from the metadata of a GGUF file.

Sources: transformers, ``models/<architecture>/configuration_<architecture>.py``; llama.cpp, ``conversion/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.api import FormatError, UnsupportedError
from studio_hf.rope import rope_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.api import BaseModel

Fields = dict[str, Any]


@dataclass(frozen=True)
class Metadata:
    """Reads the base's metadata of its architecture."""

    base: BaseModel

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value as plain Python, or the default."""
        value = self.base.metadata.get(f"{self.base.architecture}.{key}", default)
        return value.tolist() if isinstance(value, np.ndarray) else value

    def count(self, key: str, default: int | None = None) -> int:
        """Return a whole number. Raises `FormatError` where there is none."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise FormatError(
                f"{value!r} is no whole number",
                path=self.base.path,
                where=f"{self.base.architecture}.{key}",
                remedy="Convert the model again",
            )
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number with the digits it was written with, which float32 blurs."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FormatError(
                f"{value!r} is no number",
                path=self.base.path,
                where=f"{self.base.architecture}.{key}",
                remedy="Convert the model again",
            )
        return float(str(np.float32(value)))


def configuration(base: BaseModel, *, tied: bool, tensor_type: str) -> Fields:
    """Return the fields of ``config.json``.

    Parameters
    ----------
    base
        The base, whose metadata they are made of.
    tied
        Whether the folder has no output of its own.
    tensor_type
        ``F32``, ``F16`` or ``BF16``.

    Raises
    ------
    UnsupportedError
        The architecture is not known here, or its positions are scaled in a way that cannot be told.
    FormatError
        The base lacks a number that the configuration needs.
    """
    make = ARCHITECTURES.get(base.architecture)
    if make is None:
        raise UnsupportedError(
            f"the configuration of {base.architecture!r} at Hugging Face is not known",
            path=base.path,
            remedy=f"Merge into GGUF; known ones are {', '.join(sorted(ARCHITECTURES))}",
        )
    read = Metadata(base)
    vocabulary, width = base.tensors["token_embd.weight"].shape
    dtype = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[tensor_type]
    fields: Fields = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
        "use_cache": True,
        **_token_ids(base),
        **make(read),
    }
    return fields


def _token_ids(base: BaseModel) -> Fields:
    keys = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    found = {name: base.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in keys.items()}
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _transformer(read: Metadata, class_name: str, model_type: str, **more: Any) -> Fields:
    """Return what all but GPT-2 have in common."""
    heads = read.count("attention.head_count")
    width = read.count("embedding_length")
    return {
        "architectures": [class_name],
        "model_type": model_type,
        "num_hidden_layers": read.count("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": read.count("attention.head_count_kv", heads),
        "head_dim": read.count("attention.key_length", width // heads),
        "intermediate_size": read.count("feed_forward_length"),
        "max_position_embeddings": read.count("context_length"),
        **rope_fields(read),
        **more,
    }


def _normed(read: Metadata) -> Fields:
    return {"rms_norm_eps": read.number("attention.layer_norm_rms_epsilon")}


def _has_bias(read: Metadata, target: str) -> bool:
    return f"blk.0.{target}.bias" in read.base.tensors


def _llama(read: Metadata) -> Fields:
    if read.get("expert_count"):
        return _transformer(
            read,
            "MixtralForCausalLM",
            "mixtral",
            **_normed(read),
            hidden_act="silu",
            num_local_experts=read.count("expert_count"),
            num_experts_per_tok=read.count("expert_used_count"),
            sliding_window=None,
        )
    biases = {"attention_bias": _has_bias(read, "attn_q"), "mlp_bias": _has_bias(read, "ffn_up")}
    return _transformer(read, "LlamaForCausalLM", "llama", **_normed(read), hidden_act="silu", **biases)


def _qwen2(read: Metadata) -> Fields:
    return _transformer(
        read, "Qwen2ForCausalLM", "qwen2", **_normed(read), hidden_act="silu", use_sliding_window=False
    )


def _qwen3(read: Metadata) -> Fields:
    more = {"attention_bias": _has_bias(read, "attn_q"), "use_sliding_window": False}
    return _transformer(read, "Qwen3ForCausalLM", "qwen3", **_normed(read), hidden_act="silu", **more)


def _experts(read: Metadata) -> Fields:
    return {
        "hidden_act": "silu",
        "num_experts": read.count("expert_count"),
        "num_experts_per_tok": read.count("expert_used_count"),
        "moe_intermediate_size": read.count("expert_feed_forward_length"),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "use_sliding_window": False,
    }


def _qwen2moe(read: Metadata) -> Fields:
    shared = read.count("expert_shared_feed_forward_length")
    return _transformer(
        read,
        "Qwen2MoeForCausalLM",
        "qwen2_moe",
        **_normed(read),
        **_experts(read),
        shared_expert_intermediate_size=shared,
        norm_topk_prob=False,
    )


def _qwen3moe(read: Metadata) -> Fields:
    return _transformer(
        read,
        "Qwen3MoeForCausalLM",
        "qwen3_moe",
        **_normed(read),
        **_experts(read),
        norm_topk_prob=True,
        attention_bias=False,
    )


def _gemma(read: Metadata, widest: int) -> Fields:
    """Return what Gemma 2 and 3 share; the models of `widest` blocks scale attention by width / heads."""
    heads = read.count("attention.head_count")
    width = read.count("embedding_length")
    size = read.count("attention.key_length", width // heads)
    return {
        **_normed(read),
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "query_pre_attn_scalar": width // heads if read.count("block_count") == widest else size,
    }


def _gemma2(read: Metadata) -> Fields:
    return _transformer(
        read,
        "Gemma2ForCausalLM",
        "gemma2",
        **_gemma(read, 46),
        sliding_window=read.count("attention.sliding_window", 4096),
        attn_logit_softcapping=read.get("attn_logit_softcapping"),
        final_logit_softcapping=read.get("final_logit_softcapping"),
    )


def _gemma3(read: Metadata) -> Fields:
    layers = read.count("block_count")
    return _transformer(
        read,
        "Gemma3ForCausalLM",
        "gemma3_text",
        **_gemma(read, 62),
        sliding_window=read.count("attention.sliding_window", 1024),
        layer_types=_windowed(layers, 6),
        rope_local_base_freq=read.number("rope.freq_base_swa", 10000.0),
        final_logit_softcapping=read.get("final_logit_softcapping"),
    )


def _windowed(layers: int, period: int) -> list[str]:
    full, window = "full_attention", "sliding_attention"
    return [full if layer % period == period - 1 else window for layer in range(layers)]


def _granite(read: Metadata) -> Fields:
    return _transformer(
        read,
        "GraniteForCausalLM",
        "granite",
        **_normed(read),
        hidden_act="silu",
        attention_bias=_has_bias(read, "attn_q"),
        embedding_multiplier=read.number("embedding_scale", 1.0),
        attention_multiplier=read.number("attention.scale"),
        residual_multiplier=read.number("residual_scale", 1.0),
        logits_scaling=read.number("logit_scale", 1.0),
    )


def _olmo2(read: Metadata) -> Fields:
    if read.get("attention.sliding_window"):
        raise UnsupportedError(
            "the file is of an OLMo 3, and leaves out how its positions are scaled",
            path=read.base.path,
            where="olmo2.attention.sliding_window",
            remedy="Merge into GGUF",
        )
    return _transformer(
        read, "Olmo2ForCausalLM", "olmo2", **_normed(read), hidden_act="silu", attention_bias=False
    )


def _phi3(read: Metadata) -> Fields:
    original = read.count("rope.scaling.original_context_length", read.count("context_length"))
    return _transformer(
        read,
        "Phi3ForCausalLM",
        "phi3",
        **_normed(read),
        hidden_act="silu",
        original_max_position_embeddings=original,
        sliding_window=read.get("attention.sliding_window") or None,
        **({} if "pad_token_id" in _token_ids(read.base) else {"pad_token_id": None}),
    )


def _starcoder2(read: Metadata) -> Fields:
    return _transformer(
        read,
        "Starcoder2ForCausalLM",
        "starcoder2",
        norm_epsilon=read.number("attention.layer_norm_epsilon"),
        hidden_act="gelu_pytorch_tanh",
        use_bias=True,
        sliding_window=read.count("attention.sliding_window", 4096),
    )


def _stablelm(read: Metadata) -> Fields:
    return _transformer(
        read,
        "StableLmForCausalLM",
        "stablelm",
        layer_norm_eps=read.number("attention.layer_norm_epsilon"),
        hidden_act="silu",
        use_qkv_bias=_has_bias(read, "attn_q"),
        use_parallel_residual=bool(read.get("use_parallel_residual", False)),
        qk_layernorm=False,
    )


def _gpt2(read: Metadata) -> Fields:
    width = read.count("embedding_length")
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": width,
        "n_layer": read.count("block_count"),
        "n_head": read.count("attention.head_count"),
        "n_positions": read.count("context_length"),
        "n_inner": read.count("feed_forward_length"),
        "activation_function": "gelu_new",
        "layer_norm_epsilon": read.number("attention.layer_norm_epsilon"),
    }


ARCHITECTURES: dict[str, Callable[[Metadata], Fields]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen2moe": _qwen2moe,
    "qwen3moe": _qwen3moe,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "granite": _granite,
    "olmo2": _olmo2,
    "phi3": _phi3,
    "starcoder2": _starcoder2,
    "stablelm": _stablelm,
    "gpt2": _gpt2,
}
"""By the value of ``general.architecture``."""
