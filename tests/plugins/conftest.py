"""Small bases, PEFT directories and GGUF adapters, written for real."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio.api import Adapter, GgufFile, LoraFactors, MetadataValue, write_gguf
from studio.lora.stack import LoraStack

Arrays = dict[str, np.ndarray[Any, Any]]

WIDTH, KEYS, HIDDEN, VOCABULARY, LAYERS = 16, 8, 24, 32, 2
BLOCK = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (KEYS, WIDTH),
    "attn_v": (KEYS, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (HIDDEN, WIDTH),
    "ffn_up": (HIDDEN, WIDTH),
    "ffn_down": (WIDTH, HIDDEN),
}
EXPERTS = {
    "blk.1.ffn_gate_exps.weight": (3, HIDDEN, WIDTH),
    "blk.1.ffn_up_exps.weight": (3, HIDDEN, WIDTH),
    "blk.1.ffn_down_exps.weight": (3, WIDTH, HIDDEN),
}


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], GgufFile]]:
    """Open a model of any architecture: two layers, 4 heads, 2 key heads, 3 experts, an output of its own."""
    opened: dict[str, GgufFile] = {}

    def base(architecture: str = "llama") -> GgufFile:
        if architecture not in opened:
            shapes: dict[str, tuple[int, ...]] = {
                f"blk.{layer}.{target}.weight": shape
                for layer in range(LAYERS)
                for target, shape in BLOCK.items()
            }
            shapes |= EXPERTS | {
                "token_embd.weight": (VOCABULARY, WIDTH),
                "output.weight": (VOCABULARY, WIDTH),
            }
            metadata: dict[str, MetadataValue] = {
                "general.architecture": architecture,
                "general.name": f"small {architecture}",
                f"{architecture}.block_count": LAYERS,
                f"{architecture}.attention.head_count": 4,
                f"{architecture}.attention.head_count_kv": 2,
            }
            rng = np.random.default_rng(0)
            path = tmp_path_factory.mktemp("base") / f"{architecture}.gguf"
            write_gguf(
                path,
                metadata,
                {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()},
            )
            opened[architecture] = GgufFile.open(path)
        return opened[architecture]

    yield base
    for file in opened.values():
        file.close()


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Iterator[GgufFile]:
    base = GgufFile.open(smollm2_path)
    yield base
    base.close()


WritePeft = Callable[..., Path]


@pytest.fixture(scope="session")
def write_peft() -> WritePeft:
    """Write a PEFT directory: tensors by key, and configuration fields on top of the usual ones."""

    def write(folder: Path, tensors: Arrays, **fields: object) -> Path:
        folder.mkdir(exist_ok=True)
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"} | fields
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        save_file(tensors, folder / "adapter_model.safetensors")
        return folder

    return write


WriteAdapter = Callable[..., Path]


@pytest.fixture(scope="session")
def write_gguf_adapter() -> WriteAdapter:
    """Write a GGUF adapter: tensors by name, and metadata on top of the usual; None leaves a key out."""

    def write(path: Path, tensors: Arrays, metadata: dict[str, Any] | None = None) -> Path:
        keys: dict[str, Any] = {
            "general.architecture": "llama",
            "general.type": "adapter",
            "adapter.type": "lora",
            "adapter.lora.alpha": 4.0,
        }
        keys |= metadata or {}
        write_gguf(path, {key: value for key, value in keys.items() if value is not None}, tensors)
        return path

    return write


def write_ggla_file(
    path: Path, rank: int, alpha: int, tensors: Arrays, *, name_bytes: int | None = None
) -> Path:
    """Write llama.cpp's format before GGUF: float32 or float16 by the arrays' types."""
    data = bytearray(struct.pack("<IIii", 0x67676C61, 1, rank, alpha))
    for name, values in tensors.items():
        encoded = name.encode()
        kind = 1 if values.dtype == np.float16 else 0
        data += struct.pack("<iii", values.ndim, name_bytes or len(encoded), kind)
        data += struct.pack(f"<{values.ndim}i", *values.shape[::-1]) + encoded
        data += bytes(-len(data) % 32) + values.tobytes()
    path.write_bytes(data)
    return path


@pytest.fixture(scope="session")
def write_ggla() -> Callable[..., Path]:
    return write_ggla_file


def write_mlx_folder(folder: Path, tensors: Arrays, rank: int, scale: float, **fields: object) -> Path:
    """Write an MLX-LM directory."""
    folder.mkdir(exist_ok=True)
    config = {
        "fine_tune_type": "lora",
        "num_layers": -1,
        "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0},
    } | fields
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "adapters.safetensors")
    return folder


@pytest.fixture(scope="session")
def write_mlx() -> Callable[..., Path]:
    return write_mlx_folder


MakeBlend = Callable[..., LoraStack]

SHAPES = {
    **{f"blk.{layer}.{target}.weight": shape for layer in range(LAYERS) for target, shape in BLOCK.items()},
    **EXPERTS,
    "token_embd.weight": (VOCABULARY, WIDTH),
    "output.weight": (VOCABULARY, WIDTH),
}


@pytest.fixture(scope="session")
def make_blend() -> MakeBlend:
    """Stack adapters of random numbers for the small base: for each its ranks by module, and its scale."""

    def make(*adapters: tuple[dict[str, int], float], stabilised: bool = False) -> LoraStack:
        stack = LoraStack()
        for seed, (ranks, scale) in enumerate(adapters):
            rng = np.random.default_rng(seed)
            factors = {}
            for module, rank in ranks.items():
                *experts, out, inputs = SHAPES[module]
                a = rng.standard_normal((*experts, rank, inputs), np.float32)
                b = rng.standard_normal((*experts, out, rank), np.float32)
                factors[module] = LoraFactors(a, b, 2.0 + seed, rank_stabilised=stabilised)
            stack.push(Adapter(f"adapter{seed}", factors), scale)
        return stack

    return make


Deltas = Callable[[LoraStack, str], Any]


@pytest.fixture(scope="session")
def dense_blend() -> Deltas:
    """The whole delta of a blend on one module, float64, shaped like the weight."""

    def dense(stack: LoraStack, module: str) -> Any:
        total: Any = 0.0
        for channel in stack.blend.channels:
            adapter = stack.by_key[channel.key]
            assert isinstance(adapter, Adapter)
            if module in adapter.factors:
                pair = adapter.factors[module]
                total = total + channel.scale_of(module) * pair.scaling * (pair.b.astype(np.float64) @ pair.a)
        return total

    return dense
