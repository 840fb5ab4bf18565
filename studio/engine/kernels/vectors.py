"""Vectors of 16 lanes for compiled kernels: two Numba types and the operations on them, as LLVM's.

Numba has no vectors of its own, and LLVM leaves a loop over bytes scalar more often than not. Operands lie
at addresses (int64), so that one table of numbers can describe a whole token's work. LLVM splits the vectors
where the CPU's are shorter. `dot` is the one operation with an instruction of its own (VNNI).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from studio.engine.kernels.cpu import has
from studio.engine.kernels.instructions import (
    BYTE,
    FAST,
    FLOAT,
    FLOAT_LANES,
    HALF,
    LANES,
    SHORT,
    SHORT_LANES,
    WORD,
    WORD_LANES,
    call,
    emit,
    first_lanes,
    load,
    load_some,
    repeat,
    same,
    store,
    store_some,
)

HAS_VNNI = has("avx512vnni")
"""Whether this CPU multiplies and adds four bytes a lane in one instruction, 16 lanes at once."""


class FloatsType(types.Type):
    """16 float32."""

    def __init__(self) -> None:
        super().__init__(name="Floats")


class WordsType(types.Type):
    """16 int32, each of which may also hold four bytes."""

    def __init__(self) -> None:
        super().__init__(name="Words")


FLOATS, WORDS = FloatsType(), WordsType()


@register_model(FloatsType)
class FloatsModel(models.PrimitiveModel):
    """An LLVM vector."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, FLOAT_LANES)


@register_model(WordsType)
class WordsModel(models.PrimitiveModel):
    """An LLVM vector."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, WORD_LANES)


# Loads and stores


@intrinsic
def floats_at(_: Any, address: Any) -> Any:
    """Load 16 float32."""
    return emit(FLOATS(types.int64), lambda build, place: load(build, place, FLOAT_LANES))


@intrinsic
def halves_at(_: Any, address: Any) -> Any:
    """Load 16 float16 as float32."""

    def lower(build: Any, place: Any) -> Any:
        return build.fpext(load(build, place, ir.VectorType(HALF, LANES), 2), FLOAT_LANES)

    return emit(FLOATS(types.int64), lower)


@intrinsic
def bfloats_at(_: Any, address: Any) -> Any:
    """Load 16 bfloat16 as float32: their bits are the upper half."""

    def lower(build: Any, place: Any) -> Any:
        words = build.zext(load(build, place, SHORT_LANES, 2), WORD_LANES)
        return build.bitcast(build.shl(words, same(16)), FLOAT_LANES)

    return emit(FLOATS(types.int64), lower)


@intrinsic
def words_at(_: Any, address: Any) -> Any:
    """Load 16 int32."""
    return emit(WORDS(types.int64), lambda build, place: load(build, place, WORD_LANES))


@intrinsic
def splat_float_at(_: Any, address: Any) -> Any:
    """Load one float32 into every lane."""
    return emit(
        FLOATS(types.int64), lambda build, place: repeat(build, load(build, place, FLOAT), FLOAT_LANES)
    )


@intrinsic
def splat_word_at(_: Any, address: Any) -> Any:
    """Load one int32 into every lane."""
    return emit(WORDS(types.int64), lambda build, place: repeat(build, load(build, place, WORD), WORD_LANES))


@intrinsic
def float_at(_: Any, address: Any) -> Any:
    """Load one float32."""
    return emit(types.float32(types.int64), lambda build, place: load(build, place, FLOAT))


@intrinsic
def put_floats(_: Any, address: Any, values: Any) -> Any:
    """Store 16 float32."""
    return emit(types.int64(types.int64, FLOATS), store)


@intrinsic
def put_bytes(_: Any, address: Any, values: Any) -> Any:
    """Store the lowest byte of each int32."""

    def lower(build: Any, place: Any, words: Any) -> Any:
        return store(build, place, build.trunc(words, ir.VectorType(BYTE, LANES)), 1)

    return emit(types.int64(types.int64, WORDS), lower)


@intrinsic
def put_float(_: Any, address: Any, value: Any) -> Any:
    """Store one float32."""
    return emit(types.int64(types.int64, types.float32), store)


@intrinsic
def floats_up_to(_: Any, address: Any, count: Any) -> Any:
    """Load 16 float32; those from `count` on are zero, and not read."""

    def lower(build: Any, place: Any, count: Any) -> Any:
        return load_some(build, place, first_lanes(build, count))

    return emit(FLOATS(types.int64, types.int64), lower)


@intrinsic
def put_floats_up_to(_: Any, address: Any, values: Any, count: Any) -> Any:
    """Store the first `count` of 16 float32."""

    def lower(build: Any, place: Any, values: Any, count: Any) -> Any:
        return store_some(build, place, values, first_lanes(build, count))

    return emit(types.int64(types.int64, FLOATS, types.int64), lower)


# Arithmetic


@intrinsic
def splat(_: Any, value: Any) -> Any:
    """Put one float32 into every lane."""
    return emit(FLOATS(types.float32), lambda build, one: repeat(build, one, FLOAT_LANES))


@intrinsic
def no_words(_: Any) -> Any:
    """Make 16 zeros."""
    return emit(WORDS(), lambda build: same(0))


@intrinsic
def multiply_add(_: Any, x: Any, y: Any, z: Any) -> Any:
    """Compute x * y + z."""

    def lower(build: Any, x: Any, y: Any, z: Any) -> Any:
        return build.fadd(build.fmul(x, y, flags=FAST), z, flags=FAST)

    return emit(FLOATS(FLOATS, FLOATS, FLOATS), lower)


@intrinsic
def multiply(_: Any, x: Any, y: Any) -> Any:
    """Compute x * y."""
    return emit(FLOATS(FLOATS, FLOATS), lambda build, x, y: build.fmul(x, y, flags=FAST))


@intrinsic
def add(_: Any, x: Any, y: Any) -> Any:
    """Compute x + y."""
    return emit(FLOATS(FLOATS, FLOATS), lambda build, x, y: build.fadd(x, y, flags=FAST))


@intrinsic
def divide(_: Any, x: Any, y: Any) -> Any:
    """Compute x / y, rounded as IEEE does."""
    return emit(FLOATS(FLOATS, FLOATS), lambda build, x, y: build.fdiv(x, y))


@intrinsic
def root(_: Any, x: Any) -> Any:
    """Take the square root, rounded as IEEE does."""
    return emit(FLOATS(FLOATS), lambda build, x: call(build, "llvm.sqrt.v16f32", FLOAT_LANES, [x], FAST))


@intrinsic
def larger(_: Any, x: Any, y: Any) -> Any:
    """Take the larger of each pair."""

    def lower(build: Any, x: Any, y: Any) -> Any:
        return build.select(build.fcmp_ordered(">", x, y), x, y)

    return emit(FLOATS(FLOATS, FLOATS), lower)


@intrinsic
def smaller(_: Any, x: Any, y: Any) -> Any:
    """Take the smaller of each pair."""

    def lower(build: Any, x: Any, y: Any) -> Any:
        return build.select(build.fcmp_ordered("<", x, y), x, y)

    return emit(FLOATS(FLOATS, FLOATS), lower)


@intrinsic
def where_larger(_: Any, x: Any, y: Any, values: Any) -> Any:
    """Take the values where x > y, and zeros elsewhere."""

    def lower(build: Any, x: Any, y: Any, values: Any) -> Any:
        nothing = ir.Constant(FLOAT_LANES, [0.0] * LANES)
        return build.select(build.fcmp_ordered(">", x, y), values, nothing)

    return emit(FLOATS(FLOATS, FLOATS, FLOATS), lower)


@intrinsic
def magnitude(_: Any, x: Any) -> Any:
    """Drop the signs."""
    return emit(FLOATS(FLOATS), lambda build, x: call(build, "llvm.fabs.v16f32", FLOAT_LANES, [x], FAST))


@intrinsic
def whole(_: Any, x: Any) -> Any:
    """Round to the nearest whole number, as float32."""
    return emit(FLOATS(FLOATS), lambda build, x: call(build, "llvm.roundeven.v16f32", FLOAT_LANES, [x], FAST))


@intrinsic
def total(_: Any, x: Any) -> Any:
    """Sum the lanes."""

    def lower(build: Any, x: Any) -> Any:
        return call(build, "llvm.vector.reduce.fadd.v16f32", FLOAT, [ir.Constant(FLOAT, 0.0), x], FAST)

    return emit(types.float32(FLOATS), lower)


@intrinsic
def largest(_: Any, x: Any) -> Any:
    """Take the largest lane."""
    return emit(
        types.float32(FLOATS),
        lambda build, x: call(build, "llvm.vector.reduce.fmax.v16f32", FLOAT, [x], FAST),
    )


# Bytes and bits


@intrinsic
def low_nibbles(_: Any, x: Any) -> Any:
    """Take the low four bits of every byte."""
    return emit(WORDS(WORDS), lambda build, x: build.and_(x, same(0x0F0F0F0F)))


@intrinsic
def high_nibbles(_: Any, x: Any) -> Any:
    """Take the high four bits of every byte."""
    return emit(WORDS(WORDS), lambda build, x: build.and_(build.lshr(x, same(4)), same(0x0F0F0F0F)))


@intrinsic
def bits(_: Any, x: Any, first: Any, mask: Any) -> Any:
    """Take the bits from `first` on that the mask keeps."""

    def lower(build: Any, x: Any, first: Any, mask: Any) -> Any:
        shifted = build.lshr(x, repeat(build, first, WORD_LANES))
        return build.and_(shifted, repeat(build, mask, WORD_LANES))

    return emit(WORDS(WORDS, types.int32, types.int32), lower)


@intrinsic
def times_256_plus(_: Any, x: Any, y: Any) -> Any:
    """Compute 256 * x + y."""
    return emit(WORDS(WORDS, WORDS), lambda build, x, y: build.add(build.shl(x, same(8)), y))


@intrinsic
def to_floats(_: Any, x: Any) -> Any:
    """Convert int32 to float32."""
    return emit(FLOATS(WORDS), lambda build, x: build.sitofp(x, FLOAT_LANES))


@intrinsic
def to_words(_: Any, x: Any) -> Any:
    """Convert whole float32 to int32."""
    return emit(WORDS(FLOATS), lambda build, x: build.fptosi(x, WORD_LANES))


@intrinsic
def lowest_digit(_: Any, x: Any) -> Any:
    """Take the last digit to base 256, as a number from -128 to 127."""
    return emit(WORDS(WORDS), lambda build, x: build.ashr(build.shl(x, same(24)), same(24)))


@intrinsic
def without_digit(_: Any, x: Any, digit: Any) -> Any:
    """Drop the last digit to base 256: (x - digit) / 256."""
    return emit(WORDS(WORDS, WORDS), lambda build, x, digit: build.ashr(build.sub(x, digit), same(8)))


@intrinsic
def times_power_of_two(_: Any, x: Any, exponent: Any) -> Any:
    """Compute x * 2^exponent for whole exponents that leave x a normal number."""

    def lower(build: Any, x: Any, exponent: Any) -> Any:
        bits = build.shl(build.fptosi(exponent, WORD_LANES), same(23))
        return build.bitcast(build.add(build.bitcast(x, WORD_LANES), bits), FLOAT_LANES)

    return emit(FLOATS(FLOATS, FLOATS), lower)


@intrinsic
def dot(_: Any, sums: Any, codes: Any, digits: Any) -> Any:
    """Add to each lane the products of its four unsigned bytes with four signed ones."""
    lower = _dot_vnni if HAS_VNNI else _dot_anywhere
    return emit(WORDS(WORDS, WORDS, WORDS), lower)


def _dot_vnni(build: Any, sums: Any, codes: Any, digits: Any) -> Any:
    return call(build, "llvm.x86.avx512.vpdpbusd.512", WORD_LANES, [sums, codes, digits])


def _dot_anywhere(build: Any, sums: Any, codes: Any, digits: Any) -> Any:
    """Multiply as pairs of int16, which LLVM has an instruction for on most CPUs (pmaddwd, smlal)."""
    pairs, products = ir.VectorType(SHORT, 2 * LANES), ir.VectorType(WORD, 2 * LANES)

    def pair_sums(x: Any, y: Any) -> Any:
        product = build.mul(build.sext(x, products), build.sext(y, products))
        nothing = ir.Constant(products, ir.Undefined)
        even, odd = (ir.Constant(WORD_LANES, list(range(first, 2 * LANES, 2))) for first in (0, 1))
        return build.add(
            build.shuffle_vector(product, nothing, even), build.shuffle_vector(product, nothing, odd)
        )

    codes, digits = build.bitcast(codes, pairs), build.bitcast(digits, pairs)
    first = pair_sums(
        build.and_(codes, same(255, pairs)), build.ashr(build.shl(digits, same(8, pairs)), same(8, pairs))
    )
    second = pair_sums(build.lshr(codes, same(8, pairs)), build.ashr(digits, same(8, pairs)))
    return build.add(sums, build.add(first, second))
