"""What threads that walk through one program do to the same number: operations that nothing comes between."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from studio.engine.kernels.instructions import ADDRESS, emit, number, pointer


@intrinsic
def claim(_: Any, address: Any) -> Any:
    """Add 1 to the int64 at an address, and return what it was before: each number goes to one thread."""

    def lower(build: Any, place: Any) -> Any:
        return build.atomic_rmw("add", pointer(build, place, ADDRESS), number(1), "acq_rel")

    return emit(types.int64(types.int64), lower)


@intrinsic
def current(_: Any, address: Any) -> Any:
    """Read the int64 at an address, and see all that was written before it was."""

    def lower(build: Any, place: Any) -> Any:
        return build.load_atomic(pointer(build, place, ADDRESS), "acquire", 8)

    return emit(types.int64(types.int64), lower)
