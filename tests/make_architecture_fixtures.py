"""Makes tests/data/architectures: tiny random models by transformers, as GGUF by llama.cpp's own converter.

Run it where transformers, PEFT and the needs of llama.cpp's convert_hf_to_gguf.py are installed
(benchmarks/peers/requirements.txt), with the folder of llama.cpp's source:

    python tests/make_architecture_fixtures.py --llama-cpp FOLDER [NAME ...]

For each model: ``NAME.gguf`` (matrices in F16, whose values the reference computes with, too), ``NAME.npz``
with ``tokens_I`` and the logits ``logits_I`` ``[T, V]`` of every position, and where PEFT adapts it
``NAME-peft/`` with its logits ``adapted_I``. Only the converter's look-up of known tokenizers is bypassed:
the vocabulary is a tiny byte-level BPE. One fault of it is mended: it loses StableLM's norms of heads.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model
from tokenizers import ByteLevelBPETokenizer

OUT = Path(__file__).parent / "data" / "architectures"
VOCABULARY = 272
PLAIN = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
SMALL = {
    **PLAIN,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
LLAMA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Fixture:
    """One model: the class of its configuration, its values, and what is computed with it."""

    config: str
    values: dict[str, Any] = field(default_factory=dict)
    lengths: tuple[int, ...] = (24,)
    targets: str | tuple[str, ...] | None = "all-linear"
    """What PEFT adapts; None makes no adapter."""


def rope(kind: str, **values: Any) -> dict[str, Any]:
    """Return the configuration of scaled rotary positions."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **values}}


FIXTURES = {
    "llama": Fixture(
        "LlamaConfig",
        PLAIN
        | rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    "llama-linear": Fixture("LlamaConfig", SMALL | rope("linear", factor=4.0), targets=None),
    "llama-yarn": Fixture(
        "LlamaConfig",
        SMALL | rope("yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=8.0),
        targets=None,
    ),
    "mistral": Fixture(
        "MistralConfig",
        SMALL | {"head_dim": 32, "sliding_window": None, "tie_word_embeddings": True},
        targets=None,
    ),
    "qwen2": Fixture("Qwen2Config", PLAIN | {"tie_word_embeddings": True}),
    "qwen2-yarn": Fixture(
        "Qwen2Config", SMALL | rope("yarn", factor=4.0, original_max_position_embeddings=32), targets=None
    ),
    "qwen3": Fixture("Qwen3Config", PLAIN | {"head_dim": 32}),
    "gemma2": Fixture(
        "Gemma2Config",
        PLAIN
        | {
            "num_hidden_layers": 3,
            "intermediate_size": 64,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 8,
            "attn_logit_softcapping": 4.0,
            "final_logit_softcapping": 30.0,
        },
    ),
    "gemma3": Fixture(
        "Gemma3TextConfig",
        SMALL | {"num_hidden_layers": 7, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8},
        targets=(*LLAMA_TARGETS, "embed_tokens"),
    ),
    "phi3": Fixture("Phi3Config", PLAIN | {"sliding_window": 8}),
    "phi3-longrope": Fixture(
        "Phi3Config",
        SMALL
        | {"original_max_position_embeddings": 16}
        | rope(
            "longrope",
            short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
            long_factor=[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0],
            original_max_position_embeddings=16,
        ),
        lengths=(24, 16),
        targets=None,
    ),
    "granite": Fixture(
        "GraniteConfig",
        PLAIN
        | {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.1,
            "residual_multiplier": 0.5,
            "logits_scaling": 2.0,
        },
    ),
    "stablelm": Fixture("StableLmConfig", PLAIN | {"use_qkv_bias": True}),
    "stablelm-parallel": Fixture(
        "StableLmConfig", SMALL | {"use_parallel_residual": True, "qk_layernorm": True}, targets=None
    ),
    "starcoder2": Fixture("Starcoder2Config", PLAIN | {"sliding_window": None}),
    "gpt2": Fixture(
        "GPT2Config",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 128,
            "n_ctx": 128,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    ),
    "olmo2": Fixture("Olmo2Config", PLAIN),
    "olmo3": Fixture(
        "Olmo3Config",
        SMALL
        | {"num_hidden_layers": 4, "sliding_window": 8}
        | rope("yarn", factor=4.0, original_max_position_embeddings=32),
        targets=None,
    ),
    "mixtral": Fixture(
        "MixtralConfig",
        SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
    "qwen2moe": Fixture(
        "Qwen2MoeConfig",
        SMALL
        | {
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 40,
        },
    ),
    "qwen3moe": Fixture(
        "Qwen3MoeConfig",
        SMALL
        | {
            "head_dim": 32,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 24,
            "norm_topk_prob": True,
        },
    ),
}


def main() -> None:
    """Make the fixtures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path, required=True, help="the folder of llama.cpp's source")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of: " + ", ".join(FIXTURES))
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or FIXTURES:
        make(name, FIXTURES[name], arguments.llama_cpp)
        sizes = [file.stat().st_size for file in OUT.glob(f"{name}[.-]*") if file.is_file()]
        print(f"{name}: {sum(sizes) // 1000} kB")


def make(name: str, fixture: Fixture, llama_cpp: Path) -> None:
    """Make one model, convert it, and record what transformers and PEFT compute with it."""
    torch.manual_seed(zlib.crc32(name.encode()))
    config = getattr(transformers, fixture.config)(**fixture.values)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    randomise(model)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / name
        model.save_pretrained(source)
        save_tokenizer(source)
        convert(source, OUT / f"{name}.gguf", llama_cpp)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for index, length in enumerate(fixture.lengths):
        arrays[f"tokens_{index}"] = torch.randint(0, VOCABULARY, (length,)).numpy()
    arrays |= all_logits(model, arrays, "logits")
    if fixture.targets is not None:
        arrays |= all_logits(adapted(model, fixture.targets, OUT / f"{name}-peft"), arrays, "adapted")
    np.savez_compressed(OUT / f"{name}.npz", **arrays)


def randomise(model: torch.nn.Module) -> None:
    """Give all weights random values that F16 holds: matrices keep their inputs' size, norms are about 1."""
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim > 1:
            value = noise if "embed" in name else noise * parameter.shape[-1] ** -0.5
        else:
            value = parameter.data + 0.2 * noise
        parameter.data = value.half().float()


def save_tokenizer(folder: Path) -> None:
    """Train a byte-level BPE of the right size on a few words, and save it as transformers does."""
    tokenizer = ByteLevelBPETokenizer()
    text = ["the fox and the dog and the hen then went on to the other end of the field"] * 4
    tokenizer.train_from_iterator(text, VOCABULARY, special_tokens=["<|end|>"], show_progress=False)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the tokenizer has {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, eos_token="<|end|>", bos_token="<|end|>"
    ).save_pretrained(folder)


def convert(source: Path, target: Path, llama_cpp: Path) -> None:
    """Convert a folder with llama.cpp's own classes."""
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    import conversion
    from conversion.base import gguf

    hyperparameters = conversion.ModelBase.load_hparams(source, False)
    architecture = conversion.get_model_architecture(hyperparameters, conversion.ModelType.TEXT)
    found = conversion.get_model_class(architecture)

    class Converter(found):
        """The converter, told that the tokenizer splits text as GPT-2's does."""

        model_arch = found.model_arch

        def set_vocab(self) -> None:
            self._set_vocab_gpt2()

        def modify_tensors(self, *arguments: Any) -> Any:
            # StableLM's stacked norms are returned by a generator there, and so lost to its caller.
            lost = yield from super().modify_tensors(*arguments)
            yield from lost or ()

        def get_vocab_base(self) -> tuple[list[str], list[int], str]:
            saved = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
            tokens = sorted(saved["model"]["vocab"], key=saved["model"]["vocab"].__getitem__)
            return tokens, [gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(tokens) - 1), "gpt-2"

    with torch.inference_mode():
        Converter(source, gguf.LlamaFileType.MOSTLY_F16, target).write()


def all_logits(model: Any, arrays: dict[str, Any], name: str) -> dict[str, np.ndarray[Any, Any]]:
    """Compute the logits ``[T, V]`` of every sequence."""
    logits = {}
    for key in [key for key in arrays if key.startswith("tokens_")]:
        with torch.no_grad():
            output = model(input_ids=torch.from_numpy(arrays[key])[None], use_cache=False).logits[0]
        logits[key.replace("tokens", name)] = output.float().numpy()
    return logits


def adapted(model: Any, targets: str | tuple[str, ...], folder: Path) -> Any:
    """Adapt the model with PEFT, save the adapter, and return the adapted model."""
    modules = targets if isinstance(targets, str) else list(targets)
    config = LoraConfig(r=2, lora_alpha=3, target_modules=modules, task_type="CAUSAL_LM")
    adapter = get_peft_model(model, config)
    for name, parameter in adapter.named_parameters():
        if "lora_" in name:
            parameter.data = (torch.randn_like(parameter) * parameter.shape[-1] ** -0.5).half().float()
    adapter.save_pretrained(folder)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": None}
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return adapter


if __name__ == "__main__":
    main()
