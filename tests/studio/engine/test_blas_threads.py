"""BLAS keeps to one thread inside, also when several are inside, and has its threads back after."""

from __future__ import annotations

import threading

import pytest

from studio.engine import blas_threads
from studio.engine.blas_threads import one_blas_thread


def test_the_threads_come_back_when_the_last_leaves() -> None:
    functions = blas_threads._thread_functions()
    if functions is None:
        pytest.skip("this NumPy brings no OpenBLAS of its own")
    get, _ = functions
    before = get()
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with one_blas_thread():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        assert get() == 1
        thread.start()
        assert entered.wait(10)
    assert get() == 1  # the other one is inside still
    leave.set()
    thread.join(10)
    assert get() == before


def test_without_openblas_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas_threads, "_thread_functions", lambda: None)
    with one_blas_thread():
        pass
