"""The list of devices: what is there, how much is free, and why one cannot be used."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from studio.engine.backend import choose_backend
from studio.engine.devices import Device, list_devices


def test_without_cupy_the_cpu_is_there_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    cpu, gpu = list_devices()
    assert (cpu.backend, cpu.title, cpu.obstacle) == ("numpy", "CPU", "")
    assert cpu.free is None or cpu.free > 0
    assert gpu == Device("cupy", "GPU", obstacle="CuPy is not installed")


def test_every_cuda_device_has_its_name_and_its_free_memory(strict_device: Any) -> None:
    _, *gpus = list_devices()
    assert gpus == [Device("cupy:0", "Strict Device", 1 << 30), Device("cupy:1", "Other Device", 1 << 30)]
    assert "Other Device" in choose_backend(gpus[1].backend).reason


def test_a_device_that_fails_does_not_hide_the_others(
    strict_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = strict_device.cuda.runtime.getDeviceProperties

    def fail_first(number: int) -> Any:
        if number == 0:
            raise strict_device.cuda.runtime.CUDARuntimeError("unspecified launch failure")
        return properties(number)

    monkeypatch.setattr(strict_device.cuda.runtime, "getDeviceProperties", fail_first)
    _, first, second = list_devices()
    assert first == Device("cupy:0", "GPU 0", obstacle="unspecified launch failure")
    assert second.title == "Other Device"


@pytest.mark.gpu
def test_a_real_device_tells_its_free_memory(cuda_device: str) -> None:
    _, first, *_ = list_devices()
    assert first.backend == "cupy:0" and first.obstacle == "" and (first.free or 0) > 1 << 20
