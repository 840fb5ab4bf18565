"""The compiled products of 16 rows of a weight at once, and their way back to float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from studio.engine.kernels import vectors as v
from studio.engine.kernels.claims import claim
from studio.engine.kernels.compilation import kernel

FIXED_BYTES = 112
"""A block of 32 activations in fixed point: see `studio.engine.kernels.steps.fix`."""


@kernel
def scales_at(place: int, half: bool) -> Any:
    """Load the scales, or minima, of 16 rows."""
    if half:
        return v.halves_at(place)
    return v.floats_at(place)


@kernel
def joined(high: Any, middle: Any, low: Any) -> Any:
    """Put the sums of three digits together: float32 of 65536 high + 256 middle + low."""
    upper = v.to_floats(v.times_256_plus(high, middle))
    return v.multiply_add(upper, v.splat(np.float32(256)), v.to_floats(low))


@kernel
def tile_of_nibbles(record: int, blocks: int, x: int, half: bool) -> Any:
    """Multiply 16 rows of 4-bit codes: each word holds four codes and the four that lie 16 further on."""
    result = v.splat(np.float32(0))
    width = 32 if half else 64
    for _ in range(blocks):
        high, middle, low = v.no_words(), v.no_words(), v.no_words()
        for group in range(4):
            codes = v.words_at(record + 64 * group)
            first, second = v.low_nibbles(codes), v.high_nibbles(codes)
            place = x + 4 * group
            high = v.dot(v.dot(high, first, v.splat_word_at(place)), second, v.splat_word_at(place + 16))
            middle = v.dot(middle, first, v.splat_word_at(place + 32))
            middle = v.dot(middle, second, v.splat_word_at(place + 48))
            low = v.dot(low, first, v.splat_word_at(place + 64))
            low = v.dot(low, second, v.splat_word_at(place + 80))
        sums = v.multiply(joined(high, middle, low), v.splat_float_at(x + 96))
        result = v.multiply_add(sums, scales_at(record + 256, half), result)
        result = v.multiply_add(v.splat_float_at(x + 108), scales_at(record + 256 + width, half), result)
        record += 256 + 2 * width
        x += FIXED_BYTES
    return result


@kernel
def tile_of_bytes(record: int, blocks: int, x: int, half: bool) -> Any:
    """Multiply 16 rows of 8-bit codes: each word holds four neighbours."""
    result = v.splat(np.float32(0))
    width = 32 if half else 64
    for _ in range(blocks):
        high, middle, low = v.no_words(), v.no_words(), v.no_words()
        for group in range(8):
            codes = v.words_at(record + 64 * group)
            place = x + 4 * group
            high = v.dot(high, codes, v.splat_word_at(place))
            middle = v.dot(middle, codes, v.splat_word_at(place + 32))
            low = v.dot(low, codes, v.splat_word_at(place + 64))
        sums = v.multiply(joined(high, middle, low), v.splat_float_at(x + 96))
        result = v.multiply_add(sums, scales_at(record + 512, half), result)
        result = v.multiply_add(v.splat_float_at(x + 108), scales_at(record + 512 + width, half), result)
        record += 512 + 2 * width
        x += FIXED_BYTES
    return result


@kernel
def tile_of_runs(record: int, blocks: int, x: int) -> Any:
    """Multiply 16 rows of 8-bit codes of which 16 share a scale."""
    result = v.splat(np.float32(0))
    for _ in range(blocks):
        for run in range(2):
            high, middle, low = v.no_words(), v.no_words(), v.no_words()
            for group in range(4 * run, 4 * run + 4):
                codes = v.words_at(record + 64 * group)
                place = x + 4 * group
                high = v.dot(high, codes, v.splat_word_at(place))
                middle = v.dot(middle, codes, v.splat_word_at(place + 32))
                low = v.dot(low, codes, v.splat_word_at(place + 64))
            sums = v.multiply(joined(high, middle, low), v.splat_float_at(x + 96))
            result = v.multiply_add(sums, v.floats_at(record + 512 + 64 * run), result)
            minimum = v.floats_at(record + 640 + 64 * run)
            result = v.multiply_add(v.splat_float_at(x + 100 + 4 * run), minimum, result)
        record += 768
        x += FIXED_BYTES
    return result


@kernel
def tile_of_halves(record: int, width: int, x: int) -> Any:
    """Multiply 16 rows of float16 by float32; two sums, so that one need not wait for the other."""
    even, odd = v.splat(np.float32(0)), v.splat(np.float32(0))
    for column in range(0, width - 1, 2):
        place = record + 32 * column
        even = v.multiply_add(v.splat_float_at(x + 4 * column), v.halves_at(place), even)
        odd = v.multiply_add(v.splat_float_at(x + 4 * column + 4), v.halves_at(place + 32), odd)
    if width % 2:
        place = record + 32 * (width - 1)
        even = v.multiply_add(v.splat_float_at(x + 4 * (width - 1)), v.halves_at(place), even)
    return v.add(even, odd)


@kernel
def tile_of_bfloats(record: int, width: int, x: int) -> Any:
    """Multiply 16 rows of bfloat16 by float32."""
    result = v.splat(np.float32(0))
    for column in range(width):
        result = v.multiply_add(v.splat_float_at(x + 4 * column), v.bfloats_at(record + 32 * column), result)
    return result


@kernel
def tile_of_floats(record: int, width: int, x: int) -> Any:
    """Multiply 16 rows of float32."""
    even, odd = v.splat(np.float32(0)), v.splat(np.float32(0))
    for column in range(0, width - 1, 2):
        place = record + 64 * column
        even = v.multiply_add(v.splat_float_at(x + 4 * column), v.floats_at(place), even)
        odd = v.multiply_add(v.splat_float_at(x + 4 * column + 4), v.floats_at(place + 64), odd)
    if width % 2:
        place = record + 64 * (width - 1)
        even = v.multiply_add(v.splat_float_at(x + 4 * (width - 1)), v.floats_at(place), even)
    return v.add(even, odd)


@kernel
def tile(kind: int, record: int, length: int, x: int) -> Any:
    """Multiply the 16 rows of a tile, of `length` blocks or columns, by x."""
    if kind == 0:
        return tile_of_nibbles(record, length, x, True)
    if kind == 1:
        return tile_of_nibbles(record, length, x, False)
    if kind == 2:
        return tile_of_bytes(record, length, x, True)
    if kind == 3:
        return tile_of_bytes(record, length, x, False)
    if kind == 4:
        return tile_of_runs(record, length, x)
    if kind == 5:
        return tile_of_halves(record, length, x)
    if kind == 6:
        return tile_of_bfloats(record, length, x)
    return tile_of_floats(record, length, x)


@kernel
def product(step: Any, thread: int) -> None:
    """Compute out = scale * (W x) + bias, or add that to what out holds.

    Parameters: kind, records, bytes a tile, tiles, length, x, bytes of x a thread, out, scale or 0,
    bias or 0, whether to add, claims, chunk.
    """
    kind, records, size, tiles, length = step[1], step[2], step[3], step[4], step[5]
    x, out, scale, bias, adds = step[6] + step[7] * thread, step[8], step[9], step[10], step[11]
    claims, chunk = step[12], step[13]
    first = claim(claims) * chunk
    while first < tiles:
        for index in range(first, min(first + chunk, tiles)):
            result = tile(kind, records + size * index, length, x)
            if scale:
                result = v.multiply(result, v.floats_at(scale + 64 * index))
            if bias:
                result = v.add(result, v.floats_at(bias + 64 * index))
            if adds:
                result = v.add(result, v.floats_at(out + 64 * index))
            v.put_floats(out + 64 * index, result)
        first = claim(claims) * chunk


# Dequantising


@kernel
def spread_nibbles(record: int, blocks: int, out: int, stride: int, half: bool) -> None:
    """Write 16 rows of 4-bit codes as float32, column by column."""
    width = 32 if half else 64
    for _ in range(blocks):
        scale = scales_at(record + 256, half)
        minimum = scales_at(record + 256 + width, half)
        for group in range(4):
            codes = v.words_at(record + 64 * group)
            for byte in range(4):
                place = out + stride * (4 * group + byte)
                low = v.to_floats(v.bits(codes, np.int32(8 * byte), np.int32(15)))
                high = v.to_floats(v.bits(codes, np.int32(8 * byte + 4), np.int32(15)))
                v.put_floats(place, v.multiply_add(low, scale, minimum))
                v.put_floats(place + 16 * stride, v.multiply_add(high, scale, minimum))
        record += 256 + 2 * width
        out += 32 * stride


@kernel
def spread_bytes(record: int, blocks: int, out: int, stride: int, half: bool, runs: int) -> None:
    """Write 16 rows of 8-bit codes as float32, column by column."""
    width = 32 if half else 64
    for _ in range(blocks):
        for group in range(8):
            scales = record + 512 + width * (group * runs // 8)
            scale, minimum = scales_at(scales, half), scales_at(scales + width * runs, half)
            codes = v.words_at(record + 64 * group)
            for byte in range(4):
                code = v.to_floats(v.bits(codes, np.int32(8 * byte), np.int32(255)))
                v.put_floats(out + stride * (4 * group + byte), v.multiply_add(code, scale, minimum))
        record += 512 + 2 * runs * width
        out += 32 * stride


@kernel
def spread(step: Any) -> None:
    """Dequantise tiles into the columns of a panel.

    Parameters: kind, records, bytes a tile, tiles, length, out, bytes from column to column, claims, chunk.
    """
    kind, records, size, tiles, length = step[1], step[2], step[3], step[4], step[5]
    out, stride, chunk = step[6], step[7], step[9]
    first = claim(step[8]) * chunk
    while first < tiles:
        for index in range(first, min(first + chunk, tiles)):
            record, place = records + size * index, out + 64 * index
            if kind < 2:
                spread_nibbles(record, length, place, stride, kind == 0)
            elif kind < 5:
                spread_bytes(record, length, place, stride, kind == 2, 2 if kind == 4 else 1)
            for column in range(length if kind >= 5 else 0):
                if kind == 5:
                    v.put_floats(place + stride * column, v.halves_at(record + 32 * column))
                elif kind == 6:
                    v.put_floats(place + stride * column, v.bfloats_at(record + 32 * column))
                else:
                    v.put_floats(place + stride * column, v.floats_at(record + 64 * column))
        first = claim(step[8]) * chunk
