"""Computes last logits of a Gemma 3 by transformers in float32, on weights that gguf-py dequantises.

    python gemma_logits.py BASE.gguf REQUEST.json OUT.npy

The request is a list of token sequences; the answer is float32 ``[sequences, V]``.
"""

from __future__ import annotations

import json
import sys

import gguf
import numpy as np
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
OUTSIDE = {"token_embd": "embed_tokens", "output_norm": "norm"}


def main() -> None:
    """Answer the request."""
    base, request, out = sys.argv[1:]
    reader = gguf.GGUFReader(base)
    with torch.device("meta"):
        model = Gemma3ForCausalLM._from_config(configuration(reader), attn_implementation="eager")
    model.to_empty(device="cpu").load_state_dict(state(reader), strict=False)
    model.tie_weights()
    for module in model.modules():  # what is computed, not loaded
        if hasattr(module, "embed_scale"):
            module.embed_scale = torch.tensor(model.config.hidden_size**0.5)
    model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config)
    with open(request, encoding="utf-8") as file:
        sequences = json.load(file)
    logits = []
    for tokens in sequences:
        with torch.no_grad():
            logits.append(model.eval()(torch.tensor([tokens]), logits_to_keep=1).logits[0, -1].numpy())
    np.save(out, np.array(logits, dtype=np.float32))


def configuration(reader: gguf.GGUFReader) -> Gemma3TextConfig:
    """Make the configuration that the metadata describe."""

    def read(key: str) -> float:
        return reader.get_field(f"gemma3.{key}").contents()

    vocabulary, width = next(t.data.shape for t in reader.tensors if t.name == "token_embd.weight")
    return Gemma3TextConfig(
        vocab_size=int(vocabulary),
        hidden_size=read("embedding_length"),
        intermediate_size=read("feed_forward_length"),
        num_hidden_layers=read("block_count"),
        num_attention_heads=read("attention.head_count"),
        num_key_value_heads=read("attention.head_count_kv"),
        head_dim=read("attention.key_length"),
        query_pre_attn_scalar=read("attention.key_length"),
        rms_norm_eps=read("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=read("context_length"),
        sliding_window=read("attention.sliding_window"),
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": read("rope.freq_base")},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    )


def state(reader: gguf.GGUFReader) -> dict[str, torch.Tensor]:
    """Dequantise every tensor; the 1 that Gemma adds to the weights of its norms is taken off again."""
    tensors = {}
    for tensor in reader.tensors:
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name = tensor.name.removesuffix(".weight")
        if name in OUTSIDE:
            module = f"model.{OUTSIDE[name]}"
        else:
            _, layer, target = name.split(".", 2)
            module = f"model.layers.{layer}.{NAMES[target]}"
        tensors[f"{module}.weight"] = torch.from_numpy(weight - 1 if weight.ndim == 1 else weight)
    return tensors


if __name__ == "__main__":
    main()
