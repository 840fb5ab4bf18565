"""Choosing a backend, keeping its arrays apart from the host's, and failing devices."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Sampling
from studio.engine.backend import CupyBackend, choose_backend
from studio.engine.local import LocalEngine
from studio.errors import EngineError

Make = Callable[..., Any]
TOKENS = [3, 17, 0, 39, 5, 5, 21]
BLEND = BlendState((BlendChannel("a", 1, 0.7), BlendChannel("s", 1, 2.0)))


def use_everything(
    engine: LocalEngine, tiny_base: Make, tiny_adapter: Make, opaque_adapter: Make
) -> list[Any]:
    """Take every path of the engine on a base with biases; return what came out."""
    base = tiny_base(biased=True)
    module = "blk.0.ffn_down.weight"
    modules = [
        "token_embd.weight",
        "blk.0.attn_q.weight",
        "blk.1.attn_output.weight",
        module,
        "output.weight",
    ]
    stranger = opaque_adapter("s", {module: np.full(base.arrays[module].shape, 0.01, np.float32)})
    engine.open(base)
    engine.attach({"a": tiny_adapter(base, modules), "s": stranger})
    scored = engine.evaluate(TOKENS, BLEND, positions="scores")
    return [
        engine.evaluate(TOKENS, BASE_ALONE).logits,
        engine.evaluate(TOKENS, BLEND, positions="all").logits,
        scored.logits,
        scored.scores,
        *(evaluation.logits for evaluation in engine.evaluate_many(TOKENS, [BASE_ALONE, BLEND])),
        np.array(list(engine.generate(TOKENS, BLEND, Sampling(max_tokens=150)))),
    ]


def test_auto_says_that_cupy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    backend = choose_backend("auto")
    assert (backend.name, backend.reason) == ("NumPy", "NumPy: CuPy is not installed")
    with pytest.raises(EngineError, match="CuPy cannot run: CuPy is not installed. Choose auto or numpy"):
        choose_backend("cupy")


def test_auto_takes_a_device_that_answers(strict_device: Any) -> None:
    assert choose_backend("auto").reason == "CuPy: Strict Device answers"
    assert choose_backend("numpy").name == "NumPy"


def test_auto_needs_a_device_beside_the_library(strict_device: Any) -> None:
    strict_device.available = False
    assert choose_backend("auto").reason == "NumPy: no CUDA device is available"


@pytest.mark.parametrize("operation", ["ones", "exp"])
def test_auto_needs_products_and_elementwise_operations(
    strict_device: Any, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("libnvrtc is missing\nat some line")

    monkeypatch.setattr(strict_device, operation, fail)
    reason = "NumPy: the CUDA device does not answer (libnvrtc is missing)"
    assert choose_backend("auto").reason == reason


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(EngineError, match="there is no backend 'tpu'. Choose auto, numpy or cupy"):
        choose_backend("tpu")


def test_the_whole_engine_runs_on_a_device_that_refuses_host_arrays(
    strict_device: Any, tiny_base: Make, tiny_adapter: Make, opaque_adapter: Make
) -> None:
    on_host = use_everything(LocalEngine(choose_backend("numpy")), tiny_base, tiny_adapter, opaque_adapter)
    engine = LocalEngine(choose_backend("cupy"))
    on_device = use_everything(engine, tiny_base, tiny_adapter, opaque_adapter)
    for host, device in zip(on_host, on_device, strict=True):
        assert type(device) is np.ndarray
        np.testing.assert_allclose(device, host, atol=1e-5)


def test_every_function_the_engine_uses_exists_in_cupy(
    request: pytest.FixtureRequest, tiny_base: Make, tiny_adapter: Make, opaque_adapter: Make
) -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    device = request.getfixturevalue("strict_device")
    use_everything(LocalEngine(CupyBackend(device)), tiny_base, tiny_adapter, opaque_adapter)
    assert {"exp", "tile", "empty"} <= device.used_functions and "reshape" in device.used_methods
    assert [name for name in sorted(device.used_functions) if not hasattr(cupy, name)] == []
    assert [name for name in sorted(device.used_methods) if not hasattr(cupy.ndarray, name)] == []
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    assert issubclass(cupy.cuda.runtime.CUDARuntimeError, RuntimeError)
    for name in ("getDevice", "getDeviceProperties", "memGetInfo"):
        assert hasattr(cupy.cuda.runtime, name)


def test_memory_that_runs_out_once_is_freed_and_the_work_repeated(
    strict_device: Any, tiny_base: Make
) -> None:
    engine = LocalEngine(choose_backend("cupy"))
    engine.open(tiny_base())
    expected = engine.evaluate(TOKENS, BASE_ALONE).logits
    stream = engine.generate(TOKENS, BASE_ALONE, Sampling(max_tokens=3))
    freed = strict_device.freed
    strict_device.failures = [strict_device.cuda.memory.OutOfMemoryError("4 GB")]
    np.testing.assert_array_equal(engine.evaluate(TOKENS, BASE_ALONE).logits, expected)
    assert strict_device.freed == freed + 1
    first = next(stream)
    strict_device.failures = [strict_device.cuda.memory.OutOfMemoryError("4 GB")]
    again = engine.generate([*TOKENS, first], BASE_ALONE, Sampling(max_tokens=2))
    assert list(stream) == list(again)


@pytest.mark.parametrize(
    ("kind", "times", "message"),
    [
        ("memory.OutOfMemoryError", 2, "the GPU's memory ran out. Shorten the prompt, or choose the CPU"),
        ("runtime.CUDARuntimeError", 1, r"the GPU failed \(broken\). Choose the CPU"),
    ],
)
def test_a_failing_device_offers_the_cpu_and_recovers(
    strict_device: Any, tiny_base: Make, kind: str, times: int, message: str
) -> None:
    engine = LocalEngine(choose_backend("cupy"))
    engine.open(tiny_base())
    expected = engine.evaluate(TOKENS, BASE_ALONE).logits
    module, name = kind.split(".")
    strict_device.failures = [getattr(getattr(strict_device.cuda, module), name)("broken")] * times
    with pytest.raises(EngineError, match=message):
        engine.evaluate(TOKENS, BASE_ALONE)
    np.testing.assert_array_equal(engine.evaluate(TOKENS, BASE_ALONE).logits, expected)


def test_the_cpu_running_out_of_memory_is_an_engine_error() -> None:
    def work() -> None:
        raise MemoryError

    with pytest.raises(EngineError, match="the memory ran out. Shorten the prompt"):
        choose_backend("numpy").run(work)


@pytest.mark.gpu
def test_a_real_device_agrees_with_numpy(tiny_base: Make, tiny_adapter: Make, opaque_adapter: Make) -> None:
    try:
        backend = choose_backend("cupy")
    except EngineError as error:
        pytest.skip(str(error))
    on_host = use_everything(LocalEngine(choose_backend("numpy")), tiny_base, tiny_adapter, opaque_adapter)
    on_device = use_everything(LocalEngine(backend), tiny_base, tiny_adapter, opaque_adapter)
    for host, device in zip(on_host[:-1], on_device[:-1], strict=True):
        assert np.linalg.norm(device - host) / np.linalg.norm(host) < 1e-4
