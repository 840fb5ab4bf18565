"""The backend seam: where arrays live and who multiplies them, NumPy on the CPU or CuPy on a CUDA device."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np

from studio.engine.blas_threads import blas_threads
from studio.engine.cupy_backend import CupyBackend, DeviceRefusedError, import_cupy
from studio.engine.memory import available_memory
from studio.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

Array: TypeAlias = Any
"""An array of the backend in use, on whatever device that is; comments give its shape."""

HostArray: TypeAlias = np.ndarray[Any, Any]
Result = TypeVar("Result")

CUPY_NAME = re.compile(r"cupy(:\d{1,4})?")
"""A CUDA device: the first, or the one of a number from 0 on."""


class Backend(Protocol):
    """An array module, and the ways in and out of its device. Arrays are made and used inside `run` alone."""

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

    @property
    def cores(self) -> int:
        """How many threads may compute side by side."""

    def free_memory(self) -> None:
        """Give unused memory back to the device."""

    def memory_limit(self) -> int | None:
        """How many bytes of arrays the device may hold at most; None where it does not tell."""

    def available_memory(self) -> int | None:
        """How many bytes can be taken now without harm to others; None where the device does not tell."""

    def sibling(self) -> Backend:
        """Return one for another thread, which may read the arrays of this one."""

    def run(self, work: Callable[[], Result]) -> Result:
        """Do the work where the device wants it done; one that fails becomes an `EngineError`."""


class NumpyBackend:
    """The CPU through NumPy."""

    name = "NumPy"
    xp: Any = np

    def __init__(self, why: str) -> None:
        self.reason = f"NumPy: {why}"

    @property
    def cores(self) -> int:
        """As many as BLAS has threads."""
        return blas_threads()

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

    def available_memory(self) -> int | None:
        """Return what the system says it can give without swapping."""
        return available_memory()

    def sibling(self) -> Backend:
        """Return the same: any thread may compute."""
        return self

    def run(self, work: Callable[[], Result]) -> Result:
        """Do the work; memory that runs out becomes an `EngineError`. Overflow is for the reader to find."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                return work()
        except MemoryError as error:
            raise EngineError(
                "the memory ran out", remedy="Shorten the prompt or open a smaller base"
            ) from error


def choose_backend(name: str = "auto") -> Backend:
    """Make the backend of this name; ``auto`` takes CuPy where a device answers a probe, else NumPy.

    Parameters
    ----------
    name
        ``auto``, ``numpy``, or ``cupy``, which is the first CUDA device; ``cupy:1`` is the second.

    Raises
    ------
    EngineError
        For an unknown name, and for ``cupy`` where no device answers.
    """
    if name == "numpy":
        return NumpyBackend("chosen by hand")
    if name != "auto" and not CUPY_NAME.fullmatch(name):
        raise EngineError(f"there is no backend {name!r}", remedy="Choose auto, numpy, cupy or cupy:1")
    cupy, obstacle = import_cupy()
    if not obstacle:
        try:
            return CupyBackend(cupy, int(name.partition(":")[2] or 0))
        except DeviceRefusedError as error:
            obstacle = error.message
    if name == "auto":
        return NumpyBackend(obstacle)
    raise EngineError(
        f"CuPy cannot run: {obstacle}",
        remedy="Choose auto or numpy, or install the extra gpu on a CUDA machine",
    )
