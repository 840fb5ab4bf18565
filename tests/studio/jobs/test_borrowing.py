"""Long work on an engine of its own: it shares the weights, disturbs nobody, and is closed with its work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, LearningEngine, Progress, Work
from studio.engine import blas_threads
from studio.engine.local import LocalEngine
from studio.errors import CancelledError, EngineError
from studio.formats.gguf_file import GgufFile
from studio.jobs.borrowing import on_sibling
from studio.jobs.engine_thread import EngineThread
from studio.jobs.live import LiveRequest
from studio.lora.adapter import Adapter

TINY = BlendState((BlendChannel("tiny", 0, 0.5),))


def finished(work: Work) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def evaluating(engine: LearningEngine, adapter: Adapter, times: int) -> Work:
    engine.attach({"tiny": adapter})
    state = BlendState((BlendChannel("tiny", adapter.version, 0.5),))
    found = []
    for _ in range(times):
        yield Progress(0, 0)
        found.append(engine.evaluate([1, 2, 3], state).logits)
    return found


def test_live_engine_and_sibling_answer_at_once_as_each_does_alone(
    local_engine: LocalEngine, tiny_llama: GgufFile, tiny_adapter: Adapter
) -> None:
    local_engine.open(tiny_llama)
    (alone, *_) = finished(evaluating(local_engine, tiny_adapter, 1))
    base_alone = local_engine.evaluate([1, 2, 3], BASE_ALONE).logits
    thread = EngineThread(local_engine)
    done = threading.Event()
    answers: list[Any] = []
    thread.evaluated.connect(answers.append)
    thread.open(tiny_llama)
    work = on_sibling(thread, tiny_llama, lambda engine: evaluating(engine, tiny_adapter, 30))
    results: list[Any] = []

    def beside() -> None:
        results.extend(finished(work))
        done.set()

    threading.Thread(target=beside).start()
    while not done.is_set():
        thread.evaluate(LiveRequest(tiny_llama, None, {}, (1, 2, 3), BASE_ALONE))
        done.wait(0.002)
    assert thread.close()
    assert len(results) == 30 and answers
    for logits in results:
        np.testing.assert_allclose(logits, alone, rtol=1e-5, atol=1e-6)
    for answer in answers:
        np.testing.assert_allclose(answer.blend.logits, base_alone, rtol=1e-5, atol=1e-6)


def test_the_sibling_is_closed_with_its_work(local_engine: LocalEngine, tiny_llama: GgufFile) -> None:
    thread, lent = EngineThread(local_engine), []

    def work(engine: LearningEngine) -> Work:
        lent.append(engine)
        while True:
            yield Progress(0, 0)

    going = on_sibling(thread, tiny_llama, work)
    while not lent:
        next(going)
    assert lent[0].context_length == 32
    going.close()
    with pytest.raises(EngineError, match="no base is open"):
        lent[0].evaluate([1], BASE_ALONE)
    assert local_engine.context_length == 32  # the live one goes on
    assert thread.close()


def test_an_engine_that_shares_nothing_and_a_base_that_is_gone_are_told(
    engine: Any, table_base: Any, make_table_base: Callable[..., Any]
) -> None:
    thread = EngineThread(engine)
    with pytest.raises(EngineError, match="does not learn"):
        thread.sibling(table_base).result(5)
    thread.open(make_table_base(1))
    with pytest.raises(EngineError, match="another base"):
        thread.sibling(table_base).result(5)
    assert thread.close()
    with pytest.raises(CancelledError):
        finished(on_sibling(thread, table_base, lambda engine: iter(())))  # type: ignore[arg-type, return-value]


def test_while_both_compute_blas_keeps_to_their_own_threads(
    local_engine: LocalEngine, tiny_llama: GgufFile
) -> None:
    functions = blas_threads._thread_functions()
    if functions is None:
        pytest.skip("this NumPy brings no OpenBLAS of its own")
    get, set_ = functions
    before = get()
    set_(2)
    thread, counts, answered = EngineThread(local_engine), list[int](), threading.Semaphore(0)

    def listen(_: object) -> None:  # on the engine's thread, within its work
        counts.append(get())
        answered.release()

    thread.evaluated.connect(listen)
    request = LiveRequest(tiny_llama, None, {}, (1, 2, 3), BASE_ALONE)

    def work(engine: LearningEngine) -> Work:
        yield Progress(0, 0)
        thread.evaluate(request)
        assert answered.acquire(timeout=10)

    thread.evaluate(request)
    assert answered.acquire(timeout=10)
    finished(on_sibling(thread, tiny_llama, work))
    thread.evaluate(request)
    assert answered.acquire(timeout=10)
    assert thread.close() and counts == [2, 1, 2] and get() == 2
    set_(before)
