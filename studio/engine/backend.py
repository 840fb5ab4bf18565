"""The backend seam: where arrays live and who multiplies them, NumPy on the CPU or CuPy on a CUDA device."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np

from studio.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

Array: TypeAlias = Any
"""An array of the backend in use, on whatever device that is; comments give its shape."""

HostArray: TypeAlias = np.ndarray[Any, Any]
Result = TypeVar("Result")


class Backend(Protocol):
    """An array module, and the ways in and out of its device. One thread at a time may use it."""

    @property
    def name(self) -> str:
        """``NumPy`` or ``CuPy``."""

    @property
    def reason(self) -> str:
        """The name and why it was chosen, in one line."""

    @property
    def xp(self) -> Any:
        """The array module, with NumPy's functions."""

    def to_device(self, array: HostArray) -> Array:
        """Bring an array to the device, with its dtype."""

    def to_host(self, array: Array) -> HostArray:
        """Bring an array back as NumPy's; waits until it is computed."""

    def free_memory(self) -> None:
        """Give unused memory back to the device."""

    def memory_limit(self) -> int | None:
        """How many bytes of arrays the device may hold at most; None where it does not tell."""

    def run(self, work: Callable[[], Result]) -> Result:
        """Do the work; a failing device becomes an `EngineError` that says what to do."""


class NumpyBackend:
    """The CPU through NumPy."""

    name = "NumPy"
    xp: Any = np

    def __init__(self, why: str) -> None:
        self.reason = f"NumPy: {why}"

    def to_device(self, array: HostArray) -> Array:
        """Return the array itself."""
        return array

    def to_host(self, array: Array) -> HostArray:
        """Return the array itself."""
        return np.asarray(array)

    def free_memory(self) -> None:
        """Do nothing: freed arrays are the system's at once."""

    def memory_limit(self) -> int | None:
        """Return the machine's memory; None where the system does not tell (Windows)."""
        if not hasattr(os, "sysconf"):
            return None
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def run(self, work: Callable[[], Result]) -> Result:
        """Do the work; memory that runs out becomes an `EngineError`. Overflow is for the reader to find."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                return work()
        except MemoryError as error:
            raise EngineError(
                "the memory ran out", remedy="Shorten the prompt or open a smaller base"
            ) from error


class CupyBackend:
    """A CUDA device through CuPy.

    Parameters
    ----------
    cupy
        The imported module.
    """

    name = "CuPy"

    def __init__(self, cupy: Any) -> None:
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
        self.xp: Any = cupy
        self.reason = f"CuPy: {properties['name'].decode()} answers"

    def to_device(self, array: HostArray) -> Array:
        """Copy the array to the device."""
        return self.xp.asarray(array)

    def to_host(self, array: Array) -> HostArray:
        """Copy the array from the device, once it is computed."""
        host: HostArray = self.xp.asnumpy(array)
        return host

    def free_memory(self) -> None:
        """Give the pool's free blocks back: CuPy keeps them otherwise."""
        self.xp.get_default_memory_pool().free_all_blocks()

    def memory_limit(self) -> int | None:
        """Return the device's total memory."""
        return int(self.xp.cuda.runtime.memGetInfo()[1])

    def run(self, work: Callable[[], Result]) -> Result:
        """Do the work; where memory runs out, free the pool and try once more before giving up."""
        try:
            try:
                return work()
            except self.xp.cuda.memory.OutOfMemoryError:
                self.free_memory()
            return work()
        except self.xp.cuda.memory.OutOfMemoryError as error:
            self.free_memory()
            raise EngineError(
                "the GPU's memory ran out", remedy="Shorten the prompt, or choose the CPU (backend numpy)"
            ) from error
        except self.xp.cuda.runtime.CUDARuntimeError as error:
            raise EngineError(f"the GPU failed ({error})", remedy="Choose the CPU (backend numpy)") from error


def choose_backend(name: str = "auto") -> Backend:
    """Make the backend of this name; ``auto`` takes CuPy where a device answers a probe, else NumPy.

    Parameters
    ----------
    name
        ``auto``, ``numpy`` or ``cupy``.

    Raises
    ------
    EngineError
        For an unknown name, and for ``cupy`` where no device answers.
    """
    if name == "numpy":
        return NumpyBackend("chosen by hand")
    if name not in ("auto", "cupy"):
        raise EngineError(f"there is no backend {name!r}", remedy="Choose auto, numpy or cupy")
    cupy, obstacle = _probe_cupy()
    if obstacle is None:
        return CupyBackend(cupy)
    if name == "auto":
        return NumpyBackend(obstacle)
    raise EngineError(
        f"CuPy cannot run: {obstacle}",
        remedy="Choose auto or numpy, or install the extra gpu on a CUDA machine",
    )


def _probe_cupy() -> tuple[Any, str | None]:
    """Import CuPy and try a product and an elementwise operation: the module, and what stands in the way.

    Each needs a library of its own (cuBLAS; NVRTC, which compiles), so neither speaks for the other.
    """
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        missing = "CuPy is not installed" if error.name == "cupy" else f"CuPy lacks the module {error.name}"
        return None, missing
    except ImportError as error:
        return None, f"CuPy does not import ({_first_line(error)})"
    try:
        if not cupy.cuda.is_available():
            return None, "no CUDA device is available"
        ones = cupy.ones((8, 8), dtype=cupy.float32)
        total = float(cupy.asnumpy((ones @ ones + cupy.exp(ones - ones)).sum()))
    except Exception as error:  # a stranger's driver: whatever it raises is the answer, and it is reported
        return None, f"the CUDA device does not answer ({_first_line(error)})"
    if total != 8 * 8 * (8 + 1):
        return None, "the CUDA device computes wrongly"
    return cupy, None


def _first_line(error: BaseException) -> str:
    """Return the first line with words in it: CuPy's import errors begin with a rule of ``=``."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if any(map(str.isalpha, line))), type(error).__name__)
