"""Which devices this machine can compute on, how much memory each has free, and why one cannot be used."""

from __future__ import annotations

from dataclasses import dataclass

from studio.engine.cupy_backend import first_line, import_cupy
from studio.engine.memory import available_memory


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes
    ----------
    backend
        Its name for `choose_backend`.
    title
        What to call it.
    free
        How many bytes it has free; None where it does not tell.
    obstacle
        Why it cannot be used; empty where it can.
    """

    backend: str
    title: str
    free: int | None = None
    obstacle: str = ""


def list_devices() -> list[Device]:
    """List the CPU and every CUDA device; one entry stands for all of those where none can be used.

    It asks the driver, which may take a second at first, and makes no arrays.
    """
    devices = [Device("numpy", "CPU", available_memory())]
    cupy, obstacle = import_cupy()
    if obstacle:
        return [*devices, Device("cupy", "GPU", obstacle=obstacle)]
    runtime = cupy.cuda.runtime
    for number in range(runtime.getDeviceCount()):
        backend, title = f"cupy:{number}", f"GPU {number}"
        try:
            with cupy.cuda.Device(number):
                title = runtime.getDeviceProperties(number)["name"].decode()
                devices.append(Device(backend, title, int(runtime.memGetInfo()[0])))
        except Exception as error:  # a stranger's driver: whatever it raises is why
            devices.append(Device(backend, title, obstacle=first_line(error)))
    return devices
