"""Two engines for the tests of jobs: bigrams from a table at a chosen pace, and a tiny real llama."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from studio.contracts import (
    BASE_ALONE,
    BaseModel,
    BlendChannel,
    BlendState,
    Cancelled,
    DeltaAdapter,
    Evaluation,
    FloatArray,
    MetadataValue,
    Positions,
    Sampling,
    TensorInfo,
    never,
)
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.errors import CancelledError, EngineError, UnsupportedError
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_writer import write_gguf
from studio.lora.adapter import Adapter, LoraFactors
from studio.session.next_token import log_softmax

VOCABULARY = 32
LAYERS = 4


@dataclass(frozen=True, eq=False)
class TableBase:
    """A base that is one table of bigram logits ``[vocab, vocab]``."""

    seed: int = 0
    architecture: str = "bigram"
    path: Path = Path("table.gguf")
    files: Sequence[Path] = (path,)
    name: str = "table"
    file_type: str = "F32"
    file_size: int = 0
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)

    def dense(self, name: str) -> FloatArray:
        return np.random.default_rng(self.seed).normal(size=(VOCABULARY, VOCABULARY)).astype(np.float32)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Shift:
    """An adapter that raises the logits of every token by a constant vector."""

    name: str = "shift"
    version: int = 1
    modules: Sequence[str] = ("table",)
    token: int = 3

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        return np.eye(VOCABULARY, dtype=np.float32)[np.full(inputs.shape[0], self.token)]


class BigramEngine:
    """Satisfies `Engine`: looks the logits up, a layer at a time with a pause after each.

    `fail_with`, once set, is raised by the next evaluation; `log` tells what was asked of it.
    """

    description = "bigrams"

    def __init__(self, pause: float = 0.0, context_length: int = 64) -> None:
        self.pause = pause
        self.context_length = context_length
        self.fail_with: BaseException | None = None
        self.log: list[str] = []
        self.closed = False
        self._table: FloatArray | None = None
        self._adapters: Mapping[str, DeltaAdapter] = {}

    def open(self, base: BaseModel) -> None:
        self.log.append(f"open {base.name}")
        if base.architecture != "bigram":
            raise UnsupportedError(f"unknown architecture {base.architecture}")
        self._table = base.dense("table")

    def attach(self, adapters: Mapping[str, DeltaAdapter]) -> None:
        self._adapters = adapters

    def evaluate(
        self,
        tokens: Sequence[int],
        state: BlendState,
        *,
        positions: Positions = "last",
        cancelled: Cancelled = never,
    ) -> Evaluation:
        self.log.append("evaluate base" if state == BASE_ALONE else "evaluate blend")
        if self.fail_with is not None:
            error, self.fail_with = self.fail_with, None
            raise error
        started = time.perf_counter()
        if len(tokens) > self.context_length:
            raise EngineError("more tokens than the context")
        logits = self._forward(tokens, state, cancelled)  # [T, vocab]
        scores = None
        if positions == "scores":
            scores = np.asarray(log_softmax(logits)[np.arange(len(tokens) - 1), tokens[1:]], dtype=np.float32)
        return Evaluation(
            tuple(tokens),
            state,
            logits if positions == "all" else logits[-1],
            scores,
            1000 * (time.perf_counter() - started),
        )

    def evaluate_many(
        self, tokens: Sequence[int], states: Sequence[BlendState], *, cancelled: Cancelled = never
    ) -> list[Evaluation]:
        return self.evaluate_batch([tokens] * len(states), states, cancelled=cancelled)

    def evaluate_batch(
        self,
        sequences: Sequence[Sequence[int]],
        states: Sequence[BlendState],
        *,
        cancelled: Cancelled = never,
    ) -> list[Evaluation]:
        pairs = zip(sequences, states, strict=True)
        return [self.evaluate(tokens, state, cancelled=cancelled) for tokens, state in pairs]

    def generate(
        self,
        tokens: Sequence[int],
        state: BlendState,
        sampling: Sampling,
        *,
        stop: frozenset[int] = frozenset(),
        cancelled: Cancelled = never,
    ) -> Iterator[int]:
        self.log.append("generate base" if state == BASE_ALONE else "generate blend")
        adapters = self._adapters  # those of the beginning, whatever is attached later
        last = tokens[-1]
        for _ in range(sampling.max_tokens):
            last = int(np.argmax(self._forward([last], state, cancelled, adapters)[-1]))
            if last in stop:
                return
            yield last

    def close(self) -> None:
        self.closed = True

    def _forward(
        self,
        tokens: Sequence[int],
        state: BlendState,
        cancelled: Cancelled,
        adapters: Mapping[str, DeltaAdapter] | None = None,
    ) -> FloatArray:
        if self._table is None:
            raise EngineError("no base is open")
        for _ in range(LAYERS):
            if cancelled():
                self.log.append("cancelled")
                raise CancelledError
            time.sleep(self.pause)
        logits = self._table[list(tokens)]
        for channel in state.channels:
            delta = (self._adapters if adapters is None else adapters)[channel.key].delta("table", logits)
            assert delta is not None
            logits = logits + np.float32(channel.scale) * delta
        return logits


@pytest.fixture
def engine() -> BigramEngine:
    return BigramEngine()


@pytest.fixture
def table_base() -> TableBase:
    return TableBase()


@pytest.fixture
def shift() -> Shift:
    return Shift()


@pytest.fixture
def make_table_base() -> Callable[..., TableBase]:
    return TableBase


@pytest.fixture
def make_engine() -> Callable[..., BigramEngine]:
    return BigramEngine


@pytest.fixture
def blend() -> Callable[[float], BlendState]:
    """The blend of one adapter, `shift`, at a scale."""
    return lambda scale: BlendState((BlendChannel("shift", 1, scale),) if scale else ())


@pytest.fixture(scope="session")
def tiny_llama_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of two layers with random weights and a context of 32 tokens, without a tokenizer."""
    width, heads, feed_forward, vocabulary = 16, 2, 24, 40
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, width),
        "output_norm.weight": (width,),
    }
    for layer in range(2):
        shapes |= {
            f"blk.{layer}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (width,),
                "attn_q": (width, width),
                "attn_k": (width, width),
                "attn_v": (width, width),
                "attn_output": (width, width),
                "ffn_norm": (width,),
                "ffn_gate": (feed_forward, width),
                "ffn_up": (feed_forward, width),
                "ffn_down": (width, feed_forward),
            }.items()
        }
    metadata: dict[str, MetadataValue] = {
        "general.architecture": "llama",
        "general.name": "tiny llama",
        "llama.context_length": 32,
        "llama.embedding_length": width,
        "llama.block_count": 2,
        "llama.feed_forward_length": feed_forward,
        "llama.attention.head_count": heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": vocabulary,
    }
    path = tmp_path_factory.mktemp("models") / "tiny-llama.gguf"
    write_gguf(path, metadata, {name: random.normal(size=shape) for name, shape in shapes.items()})
    return path


@pytest.fixture
def tiny_llama(tiny_llama_path: Path) -> Iterator[GgufFile]:
    base = GgufFile.open(tiny_llama_path)
    yield base
    base.close()


@pytest.fixture
def tiny_adapter() -> Adapter:
    """An adapter for the tiny llama's first query weight."""
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, 16)), random.normal(size=(16, 2))
    factors = LoraFactors(a.astype(np.float32), b.astype(np.float32), alpha=4.0)
    return Adapter("tiny", MappingProxyType({"blk.0.attn_q.weight": factors}))


@pytest.fixture
def local_engine() -> Iterator[LocalEngine]:
    engine = LocalEngine(choose_backend("numpy"))
    yield engine
    engine.close()
