"""Streams go on with the compiled kernels once they are loaded, and nobody can tell but by the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Gains, Sampling
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.residency import repacked_size

Make = Callable[..., Any]
TOKENS = [3, 17, 0, 39, 5, 5, 21]
SIZES = {"width": 32, "heads": 4, "head_size": 16, "inner": 48, "context": 400}
MODULES = [
    "token_embd.weight",
    "blk.0.attn_q.weight",
    "blk.0.attn_v.weight",
    "blk.0.attn_output.weight",
    "blk.1.ffn_up.weight",
    "blk.1.ffn_down.weight",
    "output.weight",
]
GAINS = Gains.of({"token_embd.weight": 0.3, "blk.0.attn_v.weight": -2.0, "blk.1.ffn_up.weight": 0.0})
HALF = BlendState((BlendChannel("a", 1, 0.5, GAINS), BlendChannel("b", 1, -0.3)))


@contextmanager
def opened(base: Any, adapters: Any = None, residency: Any = "dense") -> Iterator[LocalEngine]:
    engine = LocalEngine(choose_backend("numpy"), residency)
    engine.open(base)
    engine.attach(adapters or {})
    try:
        yield engine
    finally:
        engine.close()


def logits_of(engine: LocalEngine, state: BlendState, count: int = 4) -> Any:
    """Decode tokens one by one after a prompt, and return the logits after each."""
    decoder, _ = engine._last_logits([TOKENS], [state], lambda: False)
    decoder.leave_trace(0)
    return np.array([decoder.next_logits(token) for token in range(count)])


@pytest.mark.parametrize("residency", ["dense", "quantised"])
@pytest.mark.parametrize("kind", [{}, {"tied": False}, {"biased": True}, {"rope_factors": True}])
@pytest.mark.parametrize("state", [BASE_ALONE, HALF])
def test_the_kernels_decode_what_numpy_decodes(
    tiny_base: Make, tiny_adapter: Make, kind: dict[str, bool], state: BlendState, residency: str
) -> None:
    base = tiny_base(**SIZES, **kind)
    adapters = {"a": tiny_adapter(base, MODULES), "b": tiny_adapter(base, MODULES[1:4], rank=17, seed=2)}
    with opened(base, adapters, residency) as engine:
        expected = logits_of(engine, state)
        assert engine.prepare()
        np.testing.assert_allclose(logits_of(engine, state), expected, rtol=1e-4, atol=1e-5)
        assert engine._base is not None and engine._base.kernels._programs


@pytest.mark.parametrize("coded", [False, True])
def test_one_thread_does_what_many_do(
    tiny_base: Make, quantised_base: Make, monkeypatch: pytest.MonkeyPatch, coded: bool
) -> None:
    walkers = pytest.importorskip("studio.engine.kernels.walkers").Walkers(1)
    monkeypatch.setattr("studio.engine.kernels.loading.shared_walkers", lambda: walkers)
    base = tiny_base(**{**SIZES, "inner": 64})
    with opened(quantised_base(base) if coded else base) as engine:
        expected = logits_of(engine, BASE_ALONE)
        assert engine.prepare()
        np.testing.assert_allclose(logits_of(engine, BASE_ALONE), expected, rtol=1e-4, atol=1e-5)


def test_what_the_kernels_repack_is_counted(tiny_base: Make, quantised_base: Make) -> None:
    base = quantised_base(tiny_base(**{**SIZES, "inner": 64}))
    for residency, added in (("dense", True), ("quantised", False)):
        with opened(base, residency=residency) as engine:
            assert engine._base is not None
            weights, kernels = engine._base.weights, engine._base.kernels.loader
            assert kernels.nbytes == 0
            engine.prepare()
            planned = repacked_size(base, engine._base.model)
            assert kernels.nbytes == (planned if added else 0)
            held = weights.nbytes + kernels.nbytes
            assert engine.description.endswith(f"{held / 1e6:,.0f} MB")


def test_dense_weights_leave_room_for_the_repacked_ones(
    tiny_base: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(**SIZES)
    dense = sum(array.nbytes for array in base.arrays.values())
    for free, stored in ((2 * dense, True), (5 * dense, False)):
        monkeypatch.setattr("studio.engine.backend.available_memory", lambda free=free: free)
        with opened(base, residency="auto") as engine:
            assert engine._base is not None
            assert (engine._base.weights.kind == "quantised") == stored


def test_a_stream_grows_past_its_room(tiny_base: Make) -> None:
    asked = Sampling(max_tokens=300)
    with opened(tiny_base(**SIZES)) as engine:
        expected = list(engine.generate(TOKENS, BASE_ALONE, asked))
        engine.prepare()
        assert list(engine.generate(TOKENS, BASE_ALONE, asked)) == expected


def test_streams_take_turns(tiny_base: Make, tiny_adapter: Make) -> None:
    base = tiny_base(**SIZES)
    with opened(base, {"a": tiny_adapter(base, MODULES)}) as engine:
        engine.prepare()
        states = [BASE_ALONE, BlendState((BlendChannel("a", 1, 1.0),))]
        alone = [list(engine.generate(TOKENS, state, Sampling(max_tokens=12))) for state in states]
        streams = [engine.generate(TOKENS, state, Sampling(max_tokens=12)) for state in states]
        together = [[next(stream) for stream in streams] for _ in range(12)]
        assert [list(tokens) for tokens in zip(*together, strict=True)] == alone


def test_streams_that_take_turns_keep_a_program_each(
    tiny_base: Make, tiny_adapter: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_program = pytest.importorskip("studio.engine.kernels.token_program")
    base = tiny_base(**SIZES)
    written: list[int] = []
    write = token_program.TokenProgram._write

    def watched(program: Any) -> Any:
        written.append(1)
        return write(program)

    monkeypatch.setattr(token_program.TokenProgram, "_write", watched)
    with opened(base, {"a": tiny_adapter(base, MODULES)}) as engine:
        engine.prepare()
        states = [BASE_ALONE, BlendState((BlendChannel("a", 1, 1.0),))]
        streams = [engine.generate(TOKENS, state, Sampling(max_tokens=6)) for state in states]
        assert len([next(stream) for _ in range(6) for stream in streams]) == 12
        assert len(written) == 2
        engine.attach({"a": tiny_adapter(base, MODULES, seed=3)})
        list(engine.generate(TOKENS, states[1], Sampling(max_tokens=3)))
        assert len(written) == 3  # of another bank
        assert engine._base is not None and len(engine._base.kernels._programs) == 2


def test_two_threads_may_decode_at_once(tiny_base: Make) -> None:
    asked = Sampling(max_tokens=200)
    results: list[list[int]] = []

    def decode() -> None:
        with opened(tiny_base(**SIZES)) as engine:
            engine.prepare()
            results.append(list(engine.generate(TOKENS, BASE_ALONE, asked)))

    threads = [threading.Thread(target=decode) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and results[0] == results[1] == results[2]


def test_a_changed_scale_is_heard_at_once(tiny_base: Make, tiny_adapter: Make) -> None:
    base = tiny_base(**SIZES)
    with opened(base, {"a": tiny_adapter(base, MODULES)}) as engine:
        states = [BlendState((BlendChannel("a", 1, scale),)) for scale in (0.2, 0.9, 0.2)]
        expected = [logits_of(engine, state, 1) for state in states]
        engine.prepare()
        for state, logits in zip(states, expected, strict=True):
            np.testing.assert_allclose(logits_of(engine, state, 1), logits, rtol=1e-4, atol=1e-5)


OFF = """
import sys
from pathlib import Path
from studio.contracts import BASE_ALONE, Sampling
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.formats.gguf_file import GgufFile

for residency in ("dense", "quantised"):
    engine = LocalEngine(choose_backend("numpy"), residency)
    engine.open(GgufFile.open(Path(sys.argv[1])))
    assert not engine.prepare()
    assert len(list(engine.generate([3, 17, 5], BASE_ALONE, Sampling(max_tokens=3)))) == 3
print("numba" in sys.modules)
"""


def test_kernels_can_be_switched_off(data_dir: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", OFF, str(data_dir / "architectures" / "gemma3.gguf")],
        env={**os.environ, "LORA_STUDIO_KERNELS": "off"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "False\n"


COMPILE = """
from numba import types
from studio.engine.kernels.compilation import compiled

@compiled(types.int64(types.int64))
def twice(x):
    return 2 * x

print(twice(21))
"""


@pytest.mark.parametrize("writable", [True, False])
def test_compiled_code_is_kept_in_the_users_cache_or_nowhere(tmp_path: Path, writable: bool) -> None:
    """Beside the source, where Numba would go next, it would find stale code."""
    cache, source = tmp_path / "cache", tmp_path / "source" / "one.py"
    source.parent.mkdir()
    source.write_text(COMPILE)
    if not writable:
        cache.write_text("no folder can be made here")
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    found = subprocess.run([sys.executable, source], env=environment, capture_output=True, check=True)
    assert found.stdout.split() == [b"42"]
    kept = {path.is_relative_to(cache) for path in tmp_path.rglob("*.nb[ic]")}
    assert kept == ({True} if writable else set())


def test_what_the_kernels_cannot_do_numpy_does(tiny_base: Make, opaque_adapter: Make) -> None:
    with opened(tiny_base()) as engine:  # heads of 4 do not fill a vector
        assert not engine.prepare()
    base = tiny_base(**SIZES)
    delta = {"blk.0.attn_q.weight": np.ones((64, 32), np.float32)}
    with opened(base, {"a": opaque_adapter("o", delta)}) as engine:
        expected = logits_of(engine, BlendState((BlendChannel("a", 1, 0.5),)))
        assert engine.prepare()
        np.testing.assert_array_equal(logits_of(engine, BlendState((BlendChannel("a", 1, 0.5),))), expected)


def test_an_interrupt_leaves_nobody_walking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come anywhere in the main thread, also once others walk in memory that it lets go of."""
    walkers_module = pytest.importorskip("studio.engine.kernels.walkers")
    walking = threading.Event()
    finished: list[int] = []

    def walk(steps: Any, meeting: int, thread: int, threads: int, position: int) -> None:
        walking.set()
        time.sleep(0.2)
        finished.append(thread)

    monkeypatch.setattr(walkers_module, "walk", walk)
    walkers = walkers_module.Walkers(2)
    result = Future.result

    def interrupted(future: Future[Any], timeout: float | None = None) -> Any:
        if threading.current_thread() is threading.main_thread() and not finished and walking.wait(5):
            monkeypatch.setattr(Future, "result", result)
            raise KeyboardInterrupt
        return result(future, timeout)

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        walkers.walk(np.zeros((1, 1), np.int64), np.zeros(8, np.int64), 0)
    assert sorted(finished) == [0, 1]
