"""DoRA beside PEFT itself: PEFT trains nothing here, it only runs what it saved."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.formats.gguf_file import GgufFile
from studio.lora.dora import DoraAdapter
from studio.lora.names import rotated_heads, rows_to_hugging_face
from studio.lora.report import bind
from studio_peft.loader import PeftLoader, PeftOptions

pytestmark = pytest.mark.peers

TOKENS = list(range(5, 45, 3))

SCRIPT = """
import sys
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

weights, folder, out = sys.argv[1:4]
arrays = dict(np.load(weights))
sizes = {name: int(arrays.pop("size " + name)) for name in
         ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
          "num_key_value_heads", "head_dim")}
model = LlamaForCausalLM(LlamaConfig(
    **sizes, rms_norm_eps=float(arrays.pop("eps")), tie_word_embeddings=False,
    rope_parameters={"rope_type": "default", "rope_theta": float(arrays.pop("theta"))}))
tokens = torch.tensor(arrays.pop("tokens"))[None]
model.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()}, strict=False)
model.eval()
torch.manual_seed(0)
model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, use_dora=True, use_rslora=True,
    target_modules=["q_proj", "k_proj", "v_proj", "down_proj"]))
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.normal_(0, 0.05)
        elif "lora_magnitude" in name:
            parameter.mul_(torch.empty_like(parameter).uniform_(0.8, 1.2))
    model.eval()
    logits = [model(tokens).logits[0].numpy()]
    for module in model.modules():
        if hasattr(module, "set_scale"):
            module.set_scale("default", 0.4)
    logits.append(model(tokens).logits[0].numpy())
model.save_pretrained(folder)
np.savez(out, one=logits[0], less=logits[1])
"""

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def hugging_face(base: GgufFile) -> dict[str, Any]:
    """The base's weights as transformers has them."""
    arrays: dict[str, Any] = {}
    for name in base.tensors:
        weight = base.dense(name)
        heads = rotated_heads(name, base.architecture, base.metadata)
        if heads is not None:
            weight = rows_to_hugging_face(weight, heads)
        parts = name.removesuffix(".weight").split(".")
        if parts[0] == "blk":
            arrays[f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"] = weight
    arrays["model.embed_tokens.weight"] = base.dense("token_embd.weight")
    arrays["model.norm.weight"] = base.dense("output_norm.weight")
    arrays["lm_head.weight"] = base.dense(
        "output.weight" if "output.weight" in base.tensors else "token_embd.weight"
    )
    return arrays


def test_logits_are_those_of_peft_at_any_scale(peers_python: str, data_dir: Path, tmp_path: Path) -> None:
    base = GgufFile.open(data_dir / "architectures" / "mistral.gguf")
    size = {
        "vocab_size": base.tensors["token_embd.weight"].shape[0],
        "hidden_size": base.metadata["llama.embedding_length"],
        "intermediate_size": base.metadata["llama.feed_forward_length"],
        "num_hidden_layers": base.metadata["llama.block_count"],
        "num_attention_heads": base.metadata["llama.attention.head_count"],
        "num_key_value_heads": base.metadata["llama.attention.head_count_kv"],
        "head_dim": base.metadata["llama.attention.key_length"],
    }
    arrays = hugging_face(base) | {f"size {name}": np.array(value) for name, value in size.items()}
    arrays |= {
        "eps": np.array(base.metadata["llama.attention.layer_norm_rms_epsilon"]),
        "theta": np.array(base.metadata["llama.rope.freq_base"]),
        "tokens": np.array(TOKENS),
    }
    np.savez(tmp_path / "weights.npz", **arrays)
    (tmp_path / "run.py").write_text(SCRIPT)
    files = [str(tmp_path / name) for name in ("run.py", "weights.npz", "adapter", "logits.npz")]
    done = subprocess.run([peers_python, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

    adapter = PeftLoader().load(tmp_path / "adapter", base, PeftOptions())
    assert isinstance(adapter, DoraAdapter)
    bound, report = bind(adapter, base)
    assert report.unmatched == ()
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach({"dora": bound})
    alone = engine.evaluate(TOKENS, BASE_ALONE, positions="all").logits
    with np.load(tmp_path / "logits.npz") as wanted:
        for name, scale in (("one", 1.0), ("less", 0.4)):
            blend = BlendState((BlendChannel("dora", bound.version, scale),))
            found = engine.evaluate(TOKENS, blend, positions="all").logits
            assert np.linalg.norm(found - wanted[name]) / np.linalg.norm(wanted[name]) < 1e-5
            assert np.linalg.norm(alone - wanted[name]) / np.linalg.norm(wanted[name]) > 0.01
    base.close()
