"""Small factorisations without BLAS's own threads, which have nothing to share there but their waiting.

OpenBLAS hands even the parts of a 32 x 32 eigenvalue problem to its threads. Those spin until the last has
had its turn: where other work keeps the cores busy, combining a whole adapter took 5 s with them and 0.2 s
without.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SUFFIXES = ("64_", "")
"""NumPy's wheels name the functions with one of these: the first for 64-bit integers."""

_lock = threading.Lock()
_inside = 0
_before = 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to the calling thread for a while; the last of those inside brings its threads back.

    It holds for the whole process, so it is for short work. Without NumPy's own OpenBLAS it does nothing.
    """
    global _inside, _before
    functions = _thread_functions()
    if functions is None:
        yield
        return
    get, set_ = functions
    with _lock:
        if _inside == 0:
            _before = get()
            set_(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                set_(_before)


def blas_threads() -> int:
    """Return how many threads BLAS has outside of `one_blas_thread`; 1 where it does not tell."""
    functions = _thread_functions()
    if functions is None:
        return 1
    with _lock:
        return _before if _inside else functions[0]()


def cores_are_shared() -> bool:
    """Say whether anybody keeps BLAS to one thread now: somebody else computes."""
    return _inside > 0


@cache
def _thread_functions() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return how to ask for and to set the number of OpenBLAS's threads."""
    package = Path(np.__file__).parent
    for library in [*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")]:
        loaded = ctypes.CDLL(str(library))  # it is in memory already: this is a handle to it
        for suffix in _SUFFIXES:
            get = getattr(loaded, f"scipy_openblas_get_num_threads{suffix}", None)
            set_ = getattr(loaded, f"scipy_openblas_set_num_threads{suffix}", None)
            if get is not None and set_ is not None:
                set_.argtypes, set_.restype = [ctypes.c_int], None
                return get, set_
    return None
