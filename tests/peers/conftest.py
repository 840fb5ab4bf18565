"""The peers' environment, and llama.cpp in it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.formats.gguf_file import GgufFile
from studio.lora.names import rotated_heads, rows_to_hugging_face

ROOT = Path(__file__).parent.parent.parent

Logits = np.ndarray[Any, np.dtype[np.float32]]
LlamaCpp = Callable[[Path, Sequence[int], Sequence[tuple[Path, float]]], Logits]


@pytest.fixture(scope="session")
def peers_python() -> str:
    """The Python of the peers' environment (benchmarks/peers/requirements.txt)."""
    python = os.environ.get("LORA_STUDIO_PEERS")
    if not python:
        pytest.skip("LORA_STUDIO_PEERS names no Python with the peers in it")
    return python


@pytest.fixture
def llama_cpp(peers_python: str, tmp_path: Path) -> LlamaCpp:
    """Last-position logits by llama.cpp: of a base, with adapters at scales, on tokens."""

    def logits(base: Path, tokens: Sequence[int], adapters: Sequence[tuple[Path, float]]) -> Logits:
        request, out = tmp_path / "request.json", tmp_path / "logits.npy"
        named = [(str(path), scale) for path, scale in adapters]
        request.write_text(json.dumps({"base": str(base), "tokens": list(tokens), "adapters": named}))
        script = ROOT / "benchmarks" / "peers" / "llama_logits.py"
        done = subprocess.run(
            [peers_python, str(script), str(request), str(out)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found: Logits = np.load(out)
        return found

    return logits


HUGGING_FACE_NAMES = {
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


@dataclass(frozen=True)
class HuggingFaceLlama:
    """A llama as transformers has it."""

    base: GgufFile

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes in its configuration."""
        keys = {
            "hidden_size": "embedding_length",
            "intermediate_size": "feed_forward_length",
            "num_hidden_layers": "block_count",
            "num_attention_heads": "attention.head_count",
            "num_key_value_heads": "attention.head_count_kv",
        }
        found = {name: int(str(self.base.metadata[f"llama.{key}"])) for name, key in keys.items()}
        queries = self.base.tensors["blk.0.attn_q.weight"].shape[0]
        found["head_dim"] = queries // found["num_attention_heads"]
        return found | {"vocab_size": self.base.tensors["token_embd.weight"].shape[0]}

    @property
    def epsilon(self) -> float:
        return float(str(self.base.metadata["llama.attention.layer_norm_rms_epsilon"]))

    @property
    def theta(self) -> float:
        return float(str(self.base.metadata["llama.rope.freq_base"]))

    @property
    def weights(self) -> dict[str, Any]:
        """All weights by transformers' names."""
        base = self.base
        found = {
            f"{self.module(name)}.weight": self.rows(name, base.dense(name))
            for name in base.tensors
            if name.startswith("blk.")
        }
        found["model.embed_tokens.weight"] = base.dense("token_embd.weight")
        found["model.norm.weight"] = base.dense("output_norm.weight")
        head = "output.weight" if "output.weight" in base.tensors else "token_embd.weight"
        return found | {"lm_head.weight": base.dense(head)}

    def module(self, name: str) -> str:
        """Return transformers' name of a module."""
        _, layer, what = name.removesuffix(".weight").split(".")
        return f"model.layers.{layer}.{HUGGING_FACE_NAMES[what]}"

    def rows(self, name: str, array: Any) -> Any:
        """Put the rows of a weight, or of the factor B of one, into transformers' order."""
        heads = rotated_heads(name, self.base.architecture, self.base.metadata)
        return array if heads is None else rows_to_hugging_face(array, heads)


@pytest.fixture
def hugging_face() -> type[HuggingFaceLlama]:
    return HuggingFaceLlama
