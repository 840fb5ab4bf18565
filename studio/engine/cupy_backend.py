"""A CUDA device through CuPy: one thread, one stream and one memory pool of its own for each backend."""

from __future__ import annotations

import importlib
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from studio.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.engine.backend import Array, HostArray

Result = TypeVar("Result")

POOL_SHARE = 0.9
"""How much of a device's free memory arrays may take: cuBLAS, compiled code and the screen need some too."""


class DeviceRefusedError(EngineError):
    """A device that does not answer, or answers wrongly."""


class DeviceFailedError(EngineError):
    """A device that took work and did not do it, for lack of memory or otherwise."""


class CupyBackend:
    """A CUDA device through CuPy.

    All that CuPy is asked for happens on one thread of the backend's own, which whoever calls waits for; in a
    stream of its own, which no other program part has to wait for; and with memory from a pool of its own.

    Parameters
    ----------
    cupy
        The imported module.
    number
        Which device, from 0 on.

    Raises
    ------
    DeviceRefusedError
        Where the device does not answer a probe.
    """

    name = "CuPy"
    cores = 1

    def __init__(self, cupy: Any, number: int = 0) -> None:
        self.xp: Any = cupy
        self._failures = (
            cupy.cuda.runtime.CUDARuntimeError,
            cupy.cuda.driver.CUDADriverError,
            cupy.cuda.cublas.CUBLASError,
            cupy.cuda.compiler.CompileException,
        )
        self._number = number
        self._owner: int | None = None  # the identity of the thread
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="CUDA")  # ends with the backend
        self.reason: str = self._thread.submit(self._start, number).result()

    def to_device(self, array: HostArray) -> Array:
        """Copy the array to the device."""
        return self.xp.asarray(array)

    def to_host(self, array: Array) -> HostArray:
        """Copy the array from the device, once it is computed."""
        host: HostArray = self.xp.asnumpy(array)
        return host

    def free_memory(self) -> None:
        """Give the pool's free blocks back: CuPy keeps them otherwise."""
        self.run(self._pool.free_all_blocks)

    def memory_limit(self) -> int | None:
        """Return the device's total memory."""
        return self.run(lambda: int(self.xp.cuda.runtime.memGetInfo()[1]))

    def available_memory(self) -> int | None:
        """Return what the pool may still take, after its limit is set anew by what is free now."""
        return self.run(self._renew_limit)

    def sibling(self) -> CupyBackend:
        """Return one with a thread, a stream and a pool of its own on the same device.

        Neither waits for the other. What is on the device by now may be read by both; nobody may write to it.
        """
        self.run(self._stream.synchronize)
        return CupyBackend(self.xp, self._number)

    def run(self, work: Callable[[], Result]) -> Result:
        """Do the work on the device's thread; where memory runs out, free the pool and try once more."""
        if threading.get_ident() == self._owner:
            return work()
        return self._thread.submit(self._serve, work).result()

    def _start(self, number: int) -> str:
        """Take the device on its thread, and return its name."""
        self._owner = threading.get_ident()
        cuda = self.xp.cuda
        try:
            count = cuda.runtime.getDeviceCount()
            if number >= count:
                raise DeviceRefusedError(
                    f"there is no CUDA device {number}, the last is {count - 1}",
                    remedy="Choose another device",
                )
            self._device = cuda.Device(number)
            with self._device:
                self._pool = cuda.MemoryPool()
                self._own_limit = int(self._pool.get_limit())  # of the user's CUPY_GPU_MEMORY_LIMIT
                self._stream = cuda.Stream(non_blocking=True)
                self._renew_limit()
                with cuda.using_allocator(self._pool.malloc), self._stream:
                    self._probe()
                name: str = cuda.runtime.getDeviceProperties(number)["name"].decode()
        except DeviceRefusedError:
            raise
        except Exception as error:  # a stranger's driver: whatever it raises is the answer, and is reported
            raise DeviceRefusedError(f"the CUDA device does not answer ({first_line(error)})") from error
        return f"CuPy: {name} answers"

    def _probe(self) -> None:
        """Try a product and an elementwise operation.

        Each needs a library of its own (cuBLAS; NVRTC, which compiles), so neither speaks for the other.
        """
        xp = self.xp
        ones = xp.ones((8, 8), dtype=xp.float32)
        total = float(xp.asnumpy((ones @ ones + xp.exp(ones - ones)).sum()))
        if total != 8 * 8 * (8 + 1):
            raise DeviceRefusedError("the CUDA device computes wrongly")

    def _renew_limit(self) -> int:
        free = int(self.xp.cuda.runtime.memGetInfo()[0])
        limit = int(self._pool.total_bytes()) + int(POOL_SHARE * free)
        if self._own_limit:
            limit = min(limit, self._own_limit)
        self._pool.set_limit(size=max(1, limit))  # 0 would be none
        return max(0, limit - int(self._pool.used_bytes()))

    def _serve(self, work: Callable[[], Result]) -> Result:
        cuda = self.xp.cuda
        errors = np.errstate(over="ignore", invalid="ignore")  # overflow is for the reader to find
        with self._device, cuda.using_allocator(self._pool.malloc), self._stream, errors:
            try:
                try:
                    return work()
                except cuda.memory.OutOfMemoryError:
                    pass  # left at once, for the error keeps the arrays of the failed work alive
                self._pool.free_all_blocks()
                return work()
            except cuda.memory.OutOfMemoryError as error:
                traceback.clear_frames(error.__traceback__)  # as above
                self._pool.free_all_blocks()
                raise DeviceFailedError(
                    "the GPU's memory ran out",
                    remedy="Shorten the prompt, choose smaller weights, or choose the CPU (backend numpy)",
                ) from error
            except self._failures as error:
                raise DeviceFailedError(
                    f"the GPU failed ({first_line(error)})", remedy="Choose the CPU (backend numpy)"
                ) from error


def import_cupy() -> tuple[Any, str]:
    """Import CuPy: the module, and what stands in the way of using it, which is nothing where it can be."""
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        return (
            None,
            "CuPy is not installed" if error.name == "cupy" else f"CuPy lacks the module {error.name}",
        )
    except ImportError as error:
        return None, f"CuPy does not import ({first_line(error)})"
    try:
        if not cupy.cuda.is_available():
            return None, "no CUDA device is available"
    except Exception as error:  # a stranger's driver
        return None, f"the CUDA driver does not answer ({first_line(error)})"
    return cupy, ""


def first_line(error: BaseException) -> str:
    """Return the first line with words in it: CuPy's import errors begin with a rule of ``=``."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if any(map(str.isalpha, line))), type(error).__name__)
