"""Choosing a backend: what is there, what answers, and what is said of what does not."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from studio.engine.backend import choose_backend
from studio.errors import EngineError


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


def test_a_device_is_chosen_by_its_number(strict_device: Any) -> None:
    assert choose_backend("cupy:1").reason == "CuPy: Other Device answers"
    with pytest.raises(EngineError, match="CuPy cannot run: there is no CUDA device 2, the last is 1"):
        choose_backend("cupy:2")


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(EngineError, match="there is no backend 'tpu'. Choose auto, numpy, cupy or cupy:1"):
        choose_backend("tpu")


def test_the_cpu_running_out_of_memory_is_an_engine_error() -> None:
    def work() -> None:
        raise MemoryError

    with pytest.raises(EngineError, match="the memory ran out. Shorten the prompt"):
        choose_backend("numpy").run(work)
