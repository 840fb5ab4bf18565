"""DoRA beside PEFT itself: PEFT trains nothing here, it only runs what it saved."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.formats.gguf_file import GgufFile
from studio.lora.dora import DoraAdapter
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


def test_logits_are_those_of_peft_at_any_scale(
    peers_python: str, data_dir: Path, tmp_path: Path, hugging_face: Callable[..., Any]
) -> None:
    base = GgufFile.open(data_dir / "architectures" / "mistral.gguf")
    model = hugging_face(base)
    arrays = {**model.weights, **{f"size {name}": np.array(value) for name, value in model.sizes.items()}}
    arrays |= {"eps": np.array(model.epsilon), "theta": np.array(model.theta), "tokens": np.array(TOKENS)}
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
