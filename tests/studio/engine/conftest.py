"""Tiny random models held in memory, adapters for them, and the device that stands in for a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import libgguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from studio.contracts import (
    BASE_ALONE,
    BlendChannel,
    BlendState,
    Dropout,
    Example,
    FloatArray,
    LowRankFactors,
    MetadataValue,
    Sampling,
    TensorInfo,
)
from studio.engine.local import LocalEngine
from studio.errors import FormatError
from studio.formats.dequantise import PLAIN_DTYPES, dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME, GgmlType

VOCABULARY = 40


@dataclass
class MemoryBase:
    """A `BaseModel` whose tensors are arrays in memory."""

    metadata: dict[str, MetadataValue]
    arrays: dict[str, FloatArray]
    path: Path = Path("tiny.gguf")
    files: tuple[Path, ...] = (path,)
    name: str = "tiny"
    file_type: str = "F32"
    file_size: int = 0

    @property
    def architecture(self) -> str:
        return str(self.metadata["general.architecture"])

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {
            name: TensorInfo(name, array.shape, "F32", array.nbytes) for name, array in self.arrays.items()
        }

    def dense(self, name: str) -> FloatArray:
        if name not in self.arrays:
            raise FormatError("no such tensor", where=name)
        return self.arrays[name]

    def close(self) -> None:
        pass


class QuantisedBase(MemoryBase):
    """The same with its matrices in Q8_0, as a file would hold them."""

    def __init__(self, base: MemoryBase) -> None:
        self._raw = {
            name: quantize(array, GGMLQuantizationType.Q8_0)
            for name, array in base.arrays.items()
            if array.ndim > 1
        }
        rounded = {name: dequantize(raw, GGMLQuantizationType.Q8_0) for name, raw in self._raw.items()}
        super().__init__(base.metadata, base.arrays | rounded)

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {
            name: TensorInfo(name, info.shape, "Q8_0", self._raw[name].nbytes) if name in self._raw else info
            for name, info in super().tensors.items()
        }

    def raw(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return self._raw[name] if name in self._raw else self.arrays[name].view(np.uint8)


@dataclass
class StoredBase(MemoryBase):
    """A base whose matrices are stored in other types than F32, as in a file."""

    types: Mapping[str, str] = field(default_factory=dict)

    _stored: dict[str, np.ndarray[Any, np.dtype[np.uint8]]] = field(default_factory=dict)

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        kinds = {name: self._type(name) for name in self.arrays}
        return {
            name: TensorInfo(
                name,
                array.shape,
                kinds[name].name,
                kinds[name].row_bytes(array.shape[-1]) * array[..., 0].size,
            )
            for name, array in self.arrays.items()
        }

    def raw(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        if name not in self._stored:
            self._stored[name] = self._store(self.arrays[name], self._type(name))
        return self._stored[name]

    def _store(self, array: FloatArray, kind: GgmlType) -> np.ndarray[Any, np.dtype[np.uint8]]:
        dtype = PLAIN_DTYPES.get(kind.name)
        if dtype is not None:
            return np.ascontiguousarray(array.astype(dtype)).view(np.uint8)
        rows = np.asarray(libgguf.quantize_rows(array.reshape(-1, array.shape[-1]), kind.number))
        return rows.reshape(*array.shape[:-1], -1)

    def dense(self, name: str) -> FloatArray:
        return dequantise(self.raw(name), self._type(name).number)

    def _type(self, name: str) -> GgmlType:
        return GGML_TYPES_BY_NAME[self.types.get(name, "F32")]


@dataclass
class Factors:
    a: FloatArray
    b: FloatArray
    scaling: float


@dataclass
class MemoryAdapter:
    """A `LowRankAdapter` whose factors are arrays in memory."""

    name: str
    factors: Mapping[str, LowRankFactors]
    version: int = 1

    @property
    def modules(self) -> Sequence[str]:
        return tuple(self.factors)

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        factors = self.factors.get(module)
        if factors is None:
            return None
        hidden: FloatArray = inputs @ factors.a.T * np.float32(factors.scaling)
        return hidden @ factors.b.T


@dataclass
class OpaqueAdapter:
    """A `DeltaAdapter` of a stranger: it shows no factors, and adds a dense delta."""

    name: str
    deltas: dict[str, FloatArray]
    version: int = 1
    calls: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    @property
    def modules(self) -> Sequence[str]:
        return tuple(self.deltas)

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        assert type(inputs) is np.ndarray and inputs.dtype == np.float32
        self.calls.append((module, inputs.shape))
        return inputs @ self.deltas[module].T if module in self.deltas else None


def make_base(
    *,
    seed: int = 0,
    layers: int = 2,
    width: int = 24,
    heads: int = 6,
    groups: int = 2,
    head_size: int = 4,
    inner: int = 20,
    context: int = 64,
    tied: bool = True,
    biased: bool = False,
    rope_factors: bool = False,
    **more: MetadataValue,
) -> MemoryBase:
    """Make a random llama; `more` are metadata keys without ``llama.``, with ``__`` for their dots."""
    random = np.random.default_rng(seed)

    def weight(*shape: int) -> FloatArray:
        return random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1]))

    def norm() -> FloatArray:
        return np.float32(1) + np.float32(0.1) * random.standard_normal(width, dtype=np.float32)

    metadata: dict[str, MetadataValue] = {
        "general.architecture": "llama",
        "llama.block_count": layers,
        "llama.context_length": context,
        "llama.embedding_length": width,
        "llama.feed_forward_length": inner,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": groups,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 1000.0,
    }
    if head_size * heads != width:
        metadata |= {"llama.attention.key_length": head_size, "llama.attention.value_length": head_size}
    metadata |= {f"llama.{key.replace('__', '.')}": value for key, value in more.items()}
    arrays = {"token_embd.weight": random.standard_normal((VOCABULARY, width), dtype=np.float32)}
    for index in range(layers):
        block = f"blk.{index}"
        arrays |= {
            f"{block}.attn_norm.weight": norm(),
            f"{block}.attn_q.weight": weight(heads * head_size, width),
            f"{block}.attn_k.weight": weight(groups * head_size, width),
            f"{block}.attn_v.weight": weight(groups * head_size, width),
            f"{block}.attn_output.weight": weight(width, heads * head_size),
            f"{block}.ffn_norm.weight": norm(),
            f"{block}.ffn_gate.weight": weight(inner, width),
            f"{block}.ffn_up.weight": weight(inner, width),
            f"{block}.ffn_down.weight": weight(width, inner),
        }
        if biased:
            arrays[f"{block}.attn_q.bias"] = weight(heads * head_size)
            arrays[f"{block}.attn_v.bias"] = weight(groups * head_size)
    arrays["output_norm.weight"] = norm()
    if not tied:
        arrays["output.weight"] = weight(VOCABULARY, width)
    if rope_factors:
        arrays["rope_freqs.weight"] = np.linspace(1, 8, head_size // 2, dtype=np.float32)
    return MemoryBase(metadata, arrays)


def make_adapter(base: MemoryBase, modules: Sequence[str], *, rank: int = 3, seed: int = 1) -> MemoryAdapter:
    """Make a random adapter for some modules; the head of a tied base has the embedding's shape."""
    random = np.random.default_rng(seed)
    factors: dict[str, LowRankFactors] = {}
    for module in modules:
        *experts, out, inputs = base.arrays.get(module, base.arrays["token_embd.weight"]).shape
        factors[module] = Factors(
            a=random.standard_normal((*experts, rank, inputs), dtype=np.float32)
            / np.float32(np.sqrt(inputs)),
            b=random.standard_normal((*experts, out, rank), dtype=np.float32),
            scaling=float(random.uniform(0.3, 1.0)),
        )
    return MemoryAdapter(f"adapter-{seed}", factors)


@pytest.fixture
def memory_base() -> type[MemoryBase]:
    return MemoryBase


@pytest.fixture
def quantised_base() -> type[QuantisedBase]:
    return QuantisedBase


@pytest.fixture
def tiny_base() -> Callable[..., MemoryBase]:
    return make_base


@pytest.fixture
def tiny_adapter() -> Callable[..., MemoryAdapter]:
    return make_adapter


@pytest.fixture
def stored_base() -> Callable[..., StoredBase]:
    """Store a base's matrices in these types, one after the other in turns."""

    def store(base: MemoryBase, *types: str) -> StoredBase:
        matrices = [name for name, array in base.arrays.items() if array.ndim > 1]
        in_turns = {name: types[index % len(types)] for index, name in enumerate(matrices)}
        return StoredBase(base.metadata, base.arrays, types=in_turns)

    return store


@pytest.fixture
def opaque_adapter() -> type[OpaqueAdapter]:
    return OpaqueAdapter


@pytest.fixture
def strict_device(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for CuPy: `choose_backend("cupy")` finds this device."""
    spec = spec_from_file_location("strict_device", Path(__file__).with_name("strict_device.py"))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    device = module.StrictDevice()
    monkeypatch.setitem(sys.modules, "cupy", device)
    return device


TOKENS = [3, 17, 0, 39, 5, 5, 21]
BLEND = BlendState((BlendChannel("a", 1, 0.7), BlendChannel("s", 1, 2.0)))


def take_every_path(engine: LocalEngine, base: MemoryBase | None = None) -> list[Any]:
    """Take every path of the engine, on a base with biases unless told; return what came out."""
    base = base or make_base(biased=True)
    module = "blk.0.ffn_down.weight"
    modules = [
        "token_embd.weight",
        "blk.0.attn_q.weight",
        "blk.1.attn_output.weight",
        module,
        "output.weight",
    ]
    stranger = OpaqueAdapter("s", {module: np.full(base.arrays[module].shape, 0.01, np.float32)})
    engine.open(base)
    engine.attach({"a": make_adapter(base, modules), "s": stranger})
    scored = engine.evaluate(TOKENS, BLEND, positions="scores")
    return [
        engine.evaluate(TOKENS, BASE_ALONE).logits,
        engine.evaluate(TOKENS, BLEND, positions="all").logits,
        scored.logits,
        scored.scores,
        *(evaluation.logits for evaluation in engine.evaluate_many(TOKENS, [BASE_ALONE, BLEND])),
        *(one.logits for one in engine.evaluate_batch([TOKENS, TOKENS[:3]], [BASE_ALONE, BLEND])),
        engine.evaluate([*TOKENS, 4], BASE_ALONE).logits,
        *_learnt(engine),
        np.array(list(engine.generate(TOKENS, BLEND, Sampling(max_tokens=150)))),
    ]


def _learnt(engine: LocalEngine) -> list[Any]:
    examples = [Example.of(TOKENS), Example.of(TOKENS[:4], first=2)]
    state = BlendState(BLEND.channels[:1])
    (loss,) = engine.losses(examples, [BLEND])
    found = engine.gradients(examples, state, train="a", dropout=Dropout(0.2, 1))
    scales = np.array(list(found.scales["a"].values()))
    return [np.array(loss.total), scales, *(pair.a for pair in found.factors.values())]


@pytest.fixture
def every_path() -> Callable[..., list[Any]]:
    return take_every_path
