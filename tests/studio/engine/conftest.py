"""Tiny random models held in memory, adapters for them, and a device that refuses whatever a GPU would."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import FloatArray, LowRankFactors, MetadataValue, TensorInfo
from studio.errors import FormatError

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
def tiny_base() -> Callable[..., MemoryBase]:
    return make_base


@pytest.fixture
def tiny_adapter() -> Callable[..., MemoryAdapter]:
    return make_adapter


@pytest.fixture
def opaque_adapter() -> type[OpaqueAdapter]:
    return OpaqueAdapter


class DeviceArray:
    """An array on a device: mixes with Python numbers and its own kind only, never turns into NumPy's."""

    __array_ufunc__ = None

    def __init__(self, device: StrictDevice, array: np.ndarray[Any, Any]) -> None:
        self._device = device
        self._array = array

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("iterating over a device array copies element by element")

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._array, name)
        self._device.used_methods.add(name)
        return self._device.guarded(attribute) if callable(attribute) else self._device.wrap(attribute)

    def __getitem__(self, key: Any) -> Any:
        return self._device.wrap(self._array[self._device.unwrap(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[self._device.unwrap(key)] = self._device.unwrap(value)


def _operator(name: str) -> Callable[[DeviceArray, Any], Any]:
    def apply(self: DeviceArray, other: Any) -> Any:
        return self._device.wrap(getattr(self._array, name)(self._device.unwrap(other)))

    return apply


def _in_place(name: str) -> Callable[[DeviceArray, Any], DeviceArray]:
    def apply(self: DeviceArray, other: Any) -> DeviceArray:
        getattr(self._array, name)(self._device.unwrap(other))
        return self

    return apply


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "matmul", "gt"):
    setattr(DeviceArray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("iadd", "isub", "imul", "itruediv"):
    setattr(DeviceArray, f"__{_name}__", _in_place(f"__{_name}__"))


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""


class StrictDevice(types.ModuleType):
    """A module with CuPy's face over NumPy: records what is used, refuses host arrays, fails on request."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.used_functions: set[str] = set()
        self.used_methods: set[str] = set()
        self.available = True
        self.freed = 0
        self.failures: list[BaseException] = []
        runtime = types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDevice=lambda: 0,
            getDeviceProperties=lambda _: {"name": b"Strict Device"},
            memGetInfo=lambda: (1 << 30, 1 << 30),
        )
        self.cuda = types.SimpleNamespace(
            runtime=runtime,
            memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            is_available=lambda: self.available,
        )

    def get_default_memory_pool(self) -> Any:
        def free() -> None:
            self.freed += 1

        return types.SimpleNamespace(free_all_blocks=free)

    def asarray(self, array: np.ndarray[Any, Any]) -> DeviceArray:
        if self.failures:
            raise self.failures.pop(0)
        assert isinstance(array, np.ndarray)
        return DeviceArray(self, array.copy())

    def asnumpy(self, array: DeviceArray) -> np.ndarray[Any, Any]:
        assert isinstance(array, DeviceArray)
        return array._array.copy()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(np, name)
        if isinstance(attribute, type):
            return attribute  # a dtype
        self.used_functions.add(name)
        return self.guarded(attribute)

    def guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            plain = {key: self.unwrap(value) for key, value in keywords.items()}
            return self.wrap(function(*(self.unwrap(argument) for argument in arguments), **plain))

        return call

    def wrap(self, value: Any) -> Any:
        return DeviceArray(self, np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value

    def unwrap(self, value: Any) -> Any:
        if isinstance(value, DeviceArray):
            return value._array
        if isinstance(value, np.ndarray):
            raise TypeError("a host array meets the device")
        if isinstance(value, tuple | list):
            return type(value)(self.unwrap(item) for item in value)
        return value


@pytest.fixture
def strict_device(monkeypatch: pytest.MonkeyPatch) -> StrictDevice:
    """Stand in for CuPy: `choose_backend("cupy")` finds this device."""
    device = StrictDevice()
    monkeypatch.setitem(sys.modules, "cupy", device)
    return device
