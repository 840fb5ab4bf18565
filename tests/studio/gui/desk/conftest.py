"""A real desk on a tiny random model: engine thread, jobs, plugins and window, all of them the real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.tokenizer.byte_level import BYTE_OF_CHARACTER
from studio.formats.gguf_writer import write_gguf
from studio.gui.desk import Desk
from studio.gui.settings import Settings
from studio.registry import Registry, load_plugins

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot

    from studio.contracts import FloatArray, MetadataValue

WriteBase = Callable[..., Path]
WriteAdapter = Callable[..., Path]

MARKER = 12345.678

WIDTH, HEADS, INNER, LAYERS = 32, 4, 48, 2


@pytest.fixture
def write_base(tmp_path: Path) -> WriteBase:
    """Write a random llama with a byte-level tokenizer."""

    def write(name: str = "base.gguf", *, width: int = WIDTH, architecture: str = "llama") -> Path:
        random = np.random.default_rng(7)

        def weight(*shape: int) -> FloatArray:
            return random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1]))

        tokens = ["<|end|>", *BYTE_OF_CHARACTER, "he", "ll"]
        tensors = {
            "token_embd.weight": weight(len(tokens), width) * 8,
            "output_norm.weight": np.ones(width, np.float32),
        }
        for layer in range(LAYERS):
            shapes = {
                "attn_q": (width, width),
                "attn_k": (width, width),
                "attn_v": (width, width),
                "attn_output": (width, width),
                "ffn_gate": (INNER, width),
                "ffn_up": (INNER, width),
                "ffn_down": (width, INNER),
            }
            tensors |= {f"blk.{layer}.{name}.weight": weight(*shape) for name, shape in shapes.items()}
            tensors |= {
                f"blk.{layer}.{name}.weight": np.ones(width, np.float32) for name in ("attn_norm", "ffn_norm")
            }
        metadata: dict[str, MetadataValue] = {
            "general.architecture": architecture,
            "general.name": name.removesuffix(".gguf"),
            f"{architecture}.block_count": LAYERS,
            f"{architecture}.context_length": 128,
            f"{architecture}.embedding_length": width,
            f"{architecture}.feed_forward_length": INNER,
            f"{architecture}.attention.head_count": HEADS,
            f"{architecture}.attention.head_count_kv": HEADS,
            f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": np.array([3, *[1] * 258], np.int32),
            "tokenizer.ggml.merges": ["h e", "l l"],
            "tokenizer.ggml.eos_token_id": 0,
        }
        write_gguf(tmp_path / name, metadata, tensors)
        return tmp_path / name

    return write


@pytest.fixture
def write_adapter(tmp_path: Path) -> WriteAdapter:
    """Write a random GGUF adapter for the attention of the random llama."""

    def write(name: str = "adapter.gguf", *, width: int = WIDTH, seed: int = 1, nan: bool = False) -> Path:
        random = np.random.default_rng(seed)
        tensors = {}
        for layer in range(LAYERS):
            for target in ("attn_q", "attn_v"):
                module = f"blk.{layer}.{target}.weight"
                tensors[f"{module}.lora_a"] = random.standard_normal((4, width), dtype=np.float32)
                tensors[f"{module}.lora_b"] = random.standard_normal((width, 4), dtype=np.float32)
        if nan:
            tensors["blk.1.attn_q.weight.lora_a"][2, 3] = MARKER
        metadata: dict[str, MetadataValue] = {
            "general.type": "adapter",
            "general.architecture": "llama",
            "general.name": name.removesuffix(".gguf"),
            "adapter.type": "lora",
            "adapter.lora.alpha": 4.0,
        }
        path = tmp_path / name
        write_gguf(path, metadata, tensors)
        if nan:  # our own writer refuses it
            marker, fault = np.float32(MARKER).tobytes(), np.float32("nan").tobytes()
            path.write_bytes(path.read_bytes().replace(marker, fault))
        return path

    return write


@pytest.fixture(scope="session")
def plugins() -> Registry:
    return load_plugins(safe_mode=True)


@pytest.fixture
def make_desk(qapp: QApplication, tmp_path: Path) -> Iterator[Callable[[Registry], Desk]]:
    """Build desks, and take them down at the end whatever happened."""
    desks: list[Desk] = []

    def make(plugins: Registry) -> Desk:
        engine = LocalEngine(choose_backend("numpy"))
        desks.append(Desk(qapp, plugins, engine=engine, settings=Settings(tmp_path / "desk.ini")))
        desks[-1].window.show()
        return desks[-1]

    yield make
    for desk in desks:
        desk.close()


@pytest.fixture
def empty_desk(make_desk: Callable[[Registry], Desk], plugins: Registry) -> Desk:
    """A desk as it is before anything is opened."""
    return make_desk(plugins)


@pytest.fixture
def desk(empty_desk: Desk, write_base: WriteBase, write_adapter: WriteAdapter, qtbot: QtBot) -> Desk:
    """A desk with the random llama, one adapter at scale 1, and a prompt that has been answered."""
    desk = empty_desk
    desk.models.open_base(write_base())
    qtbot.waitUntil(lambda: desk.session.base is not None)
    desk.window.prompt.prompt_changed.emit("hello there", False)
    with qtbot.waitSignal(
        desk.live.shown, check_params_cb=lambda result: len(result.request.state.channels) == 1
    ):
        desk.models.add_adapter(write_adapter())
    qtbot.waitUntil(lambda: desk.norms.ready and not desk.jobs.busy and "adapter" in desk.window.stack.rows)
    return desk
