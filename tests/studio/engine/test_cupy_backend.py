"""The engine on a device that refuses whatever a GPU would, and on a real one where there is one."""

from __future__ import annotations

import gc
import inspect
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, Sampling
from studio.engine.backend import choose_backend
from studio.engine.cupy_backend import POOL_SHARE, CupyBackend, DeviceFailedError
from studio.engine.local import LocalEngine

Make = Callable[..., Any]
TOKENS = [3, 17, 0, 39, 5, 5, 21]
STORED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16", "IQ4_NL")


def test_the_whole_engine_runs_on_a_device_that_refuses_host_arrays(
    strict_device: Any, every_path: Make
) -> None:
    on_host = every_path(LocalEngine(choose_backend("numpy")))
    on_device = every_path(LocalEngine(choose_backend("cupy")))
    for host, device in zip(on_host, on_device, strict=True):
        assert type(device) is np.ndarray
        np.testing.assert_allclose(device, host, atol=1e-5)


def test_every_function_the_engine_uses_exists_in_cupy(
    request: pytest.FixtureRequest, every_path: Make, tiny_base: Make, stored_base: Make
) -> None:
    """What the double was asked for, in all residencies, is there in CuPy and takes such arguments."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    device = request.getfixturevalue("strict_device")
    every_path(LocalEngine(CupyBackend(device), "dense"))
    every_path(LocalEngine(CupyBackend(device), "float16"))
    wide = tiny_base(layers=3, width=256, heads=4, head_size=64, inner=256)
    every_path(LocalEngine(CupyBackend(device), "quantised"), stored_base(wide, *STORED))
    assert {"exp", "where", "empty", "unpackbits", "float16"} <= set(device.used_functions)
    assert {"reshape", "view", "astype"} <= device.used_methods
    assert [name for name in sorted(device.used_methods) if not hasattr(cupy.ndarray, name)] == []
    for name, calls in device.used_functions.items():
        signature = signature_of(getattr(cupy, name))
        for count, keywords in calls if signature is not None else ():
            signature.bind(*range(count), **dict.fromkeys(keywords))
    assert_there(device.cuda, cupy.cuda)
    for name in ("malloc", "free_all_blocks", "set_limit", "get_limit", "total_bytes", "used_bytes"):
        assert hasattr(cupy.cuda.MemoryPool, name)
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    assert issubclass(cupy.cuda.runtime.CUDARuntimeError, RuntimeError)


def signature_of(function: Any) -> Any:
    """Return a function's signature; None of a compiled one, which does not tell."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def assert_there(double: SimpleNamespace, real: Any) -> None:
    for name, value in vars(double).items():
        assert hasattr(real, name), name
        if isinstance(value, SimpleNamespace):
            assert_there(value, getattr(real, name))


def test_one_thread_talks_to_the_device_whoever_asks(strict_device: Any, tiny_base: Make) -> None:
    """The double refuses a second thread, the default stream and memory that is not the backend's own."""
    engine = LocalEngine(choose_backend("cupy"))
    results: list[Any] = []

    def use(base: Any) -> None:
        engine.open(base)
        results.append(engine.evaluate(TOKENS, BASE_ALONE).logits)

    for seed in range(2):
        thread = threading.Thread(target=use, args=[tiny_base(seed=seed)])
        thread.start()
        thread.join()
    assert len(results) == 2
    np.testing.assert_array_equal(engine.evaluate(TOKENS, BASE_ALONE).logits, results[1])


def test_two_engines_share_a_device(strict_device: Any, tiny_base: Make) -> None:
    """As while the desk switches: each has a thread, a stream and a pool of its own."""
    engines = [LocalEngine(choose_backend("cupy")) for _ in range(2)]
    for engine in engines:
        engine.open(tiny_base())
    first, second = (engine.evaluate(TOKENS, BASE_ALONE).logits for engine in engines)
    np.testing.assert_array_equal(first, second)
    assert len(strict_device.pools) == 2


def test_a_closed_engine_holds_no_memory_and_a_forgotten_one_no_thread(
    strict_device: Any, tiny_base: Make
) -> None:
    before = set(threading.enumerate())
    engine = LocalEngine(choose_backend("cupy"))
    engine.open(tiny_base())
    engine.evaluate(TOKENS, BASE_ALONE)
    (pool,) = strict_device.pools
    assert pool.held > 10_000
    engine.close()
    assert pool.used == pool.held == 0
    (thread,) = (one for one in set(threading.enumerate()) - before if one.name.startswith("CUDA"))
    del engine
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_the_pool_takes_a_share_of_what_is_free(strict_device: Any) -> None:
    backend = CupyBackend(strict_device)
    backend.free_memory()
    for strict_device.total in (1 << 30, 1 << 20):
        assert backend.available_memory() == int(POOL_SHARE * strict_device.total)
        assert strict_device.pools[0].limit == int(POOL_SHARE * strict_device.total)


def test_a_limit_of_the_users_own_stays(strict_device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUPY_GPU_MEMORY_LIMIT sets it."""
    pool = strict_device.cuda.MemoryPool

    def limited() -> Any:
        made = pool()
        made.limit = 5000
        return made

    monkeypatch.setattr(strict_device.cuda, "MemoryPool", limited)
    assert CupyBackend(strict_device).available_memory() == 5000


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
        (
            "memory.OutOfMemoryError",
            4,  # twice, and twice again once nothing is kept for reuse
            "the GPU's memory ran out. Shorten the prompt, choose smaller weights",
        ),
        ("runtime.CUDARuntimeError", 1, r"the GPU failed \(broken\). Choose the CPU"),
        ("cublas.CUBLASError", 1, r"the GPU failed \(broken\). Choose the CPU"),
        ("compiler.CompileException", 1, r"the GPU failed \(broken\). Choose the CPU"),
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
    with pytest.raises(DeviceFailedError, match=message):
        engine.evaluate(TOKENS, BASE_ALONE)
    np.testing.assert_array_equal(engine.evaluate(TOKENS, BASE_ALONE).logits, expected)


def test_work_that_ran_out_of_memory_leaves_none_taken(strict_device: Any, tiny_base: Make) -> None:
    """Not even while its error is being looked at, which keeps the frames of the failed work."""
    engine = LocalEngine(choose_backend("cupy"))
    engine.open(tiny_base(context=2000))
    engine.evaluate(TOKENS, BASE_ALONE)
    (pool,) = strict_device.pools
    assert engine._base is not None
    engine._base.traces.clear()
    before = pool.used
    engine.evaluate(TOKENS, BASE_ALONE)
    pool.limit = before + 50_000
    with pytest.raises(DeviceFailedError) as raised:
        engine.evaluate(TOKENS * 250, BASE_ALONE)
    assert isinstance(raised.value.__cause__, MemoryError)
    assert pool.used == before
    engine.evaluate(TOKENS, BASE_ALONE)


@pytest.mark.gpu
def test_a_real_device_agrees_with_numpy(cuda_device: str, every_path: Make) -> None:
    on_host = every_path(LocalEngine(choose_backend("numpy")))
    on_device = every_path(LocalEngine(choose_backend(cuda_device), "dense"))
    for host, device in zip(on_host[:-1], on_device[:-1], strict=True):
        assert np.linalg.norm(device - host) / np.linalg.norm(host) < 1e-4


@pytest.mark.gpu
def test_a_real_device_works_on_one_thread_and_a_stream_of_its_own(cuda_device: str) -> None:
    cupy = pytest.importorskip("cupy")
    backend = choose_backend(cuda_device)
    own, default = backend.run(cupy.cuda.get_current_stream), cupy.cuda.get_current_stream()
    assert own != default == cupy.cuda.Stream.null
    threads = [backend.run(threading.get_ident) for _ in range(2)]
    assert threads[0] == threads[1] != threading.get_ident()


@pytest.mark.gpu
def test_a_real_pool_that_is_too_small_is_an_error_and_the_engine_goes_on(
    cuda_device: str, tiny_base: Make
) -> None:
    backend = choose_backend(cuda_device)
    assert isinstance(backend, CupyBackend)
    engine = LocalEngine(backend, "dense")
    engine.open(tiny_base(context=20_000))
    expected = engine.evaluate(TOKENS, BASE_ALONE).logits
    backend.run(lambda: backend._pool.set_limit(size=backend._pool.used_bytes() + 4096))
    with pytest.raises(DeviceFailedError, match="the GPU's memory ran out"):
        engine.evaluate(TOKENS * 2000, BASE_ALONE)
    backend.available_memory()  # sets the limit anew
    np.testing.assert_array_equal(engine.evaluate(TOKENS, BASE_ALONE).logits, expected)


@pytest.mark.gpu
def test_engines_are_exchanged_on_a_real_device(cuda_device: str, tiny_base: Make) -> None:
    """The old one stays until the new one is open, and what it held is free after it."""
    base = tiny_base()
    old = LocalEngine(choose_backend(cuda_device), "dense")
    old.open(base)
    expected = old.evaluate(TOKENS, BASE_ALONE).logits
    new = LocalEngine(choose_backend(cuda_device), "float16")
    new.open(base)
    np.testing.assert_array_equal(old.evaluate(TOKENS, BASE_ALONE).logits, expected)
    old.close()
    found = new.evaluate(TOKENS, BASE_ALONE).logits
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 2e-3
