"""Instructions as LLVM's, on operands at addresses (int64): what the kernels' own operations are built of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LANES = 16

BYTE, SHORT, WORD, FLOAT, HALF = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType(), ir.HalfType()
ADDRESS = ir.IntType(64)
FLOAT_LANES, WORD_LANES = ir.VectorType(FLOAT, LANES), ir.VectorType(WORD, LANES)
SHORT_LANES = ir.VectorType(SHORT, LANES)
NO_FLOATS = ir.Constant(FLOAT_LANES, [0.0] * LANES)

FAST = ("reassoc", "contract", "nsz", "arcp")
"""Sums may be taken in any order; infinity and NaN stay what they are, so that an overflow shows."""


def emit(signature: Any, lower: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
    """Pair a signature with what builds its instructions: `lower(builder, *arguments)`."""
    return signature, lambda context, builder, _, arguments: lower(builder, *arguments)


def number(value: int) -> Any:
    """Return an address or a distance."""
    return ir.Constant(ADDRESS, value)


def same(value: int, kind: Any = WORD_LANES) -> Any:
    """Return a vector of equal numbers."""
    return ir.Constant(kind, [value] * kind.count)


def pointer(build: Any, address: Any, kind: Any = BYTE) -> Any:
    """Turn an address into a pointer."""
    return build.inttoptr(address, ir.PointerType(kind))


def load(build: Any, address: Any, kind: Any, align: int = 4) -> Any:
    """Load a value of some kind."""
    return build.load(pointer(build, address, kind), align=align)


def store(build: Any, address: Any, value: Any, align: int = 4) -> Any:
    """Store a value; return the address."""
    build.store(value, pointer(build, address, value.type), align=align)
    return address


def repeat(build: Any, value: Any, kind: Any) -> Any:
    """Put one value into every lane."""
    one = build.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(WORD, 0))
    return build.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(WORD_LANES, [0] * LANES))


def call(build: Any, name: str, result: Any, arguments: Sequence[Any], flags: Sequence[str] = ()) -> Any:
    """Call one of LLVM's intrinsics."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(build.module, kind, name)
    return build.call(function, arguments, fastmath=flags)


def first_lanes(build: Any, count: Any) -> Any:
    """Say which lanes are among the first `count`."""
    lanes = ir.Constant(WORD_LANES, list(range(LANES)))
    return build.icmp_signed("<", lanes, repeat(build, build.trunc(count, WORD), WORD_LANES))


def load_some(build: Any, address: Any, mask: Any) -> Any:
    """Load the float32 of some lanes; the others are zero, and not read."""
    arguments = [pointer(build, address, FLOAT_LANES), ir.Constant(WORD, 4), mask, NO_FLOATS]
    return call(build, "llvm.masked.load.v16f32.p0", FLOAT_LANES, arguments)


def store_some(build: Any, address: Any, values: Any, mask: Any) -> Any:
    """Store the float32 of some lanes; return the address."""
    arguments = [values, pointer(build, address, FLOAT_LANES), ir.Constant(WORD, 4), mask]
    call(build, "llvm.masked.store.v16f32.p0", ir.VoidType(), arguments)
    return address


def prefetch(build: Any, address: Any) -> None:
    """Ask for what lies at an address, into the second cache; any address will do."""
    words = [ir.Constant(WORD, value) for value in (0, 2, 1)]  # to read; there; data
    call(build, "llvm.prefetch.p0", ir.VoidType(), [pointer(build, address), *words])
