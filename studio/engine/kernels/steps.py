"""The compiled steps of a token, and the walk through a program of them that every thread makes at once.

A program is a table of int64, one step a row: `Step` and what `program.py` writes after it. Operands are
addresses. Work is claimed in chunks, so that a thread that the system holds up does not hold up the others.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numba import njit, types

from studio.engine.kernels import vectors as v

COLUMNS = 16
"""How many numbers describe a step."""

FIXED_BYTES = 112
"""A block of 32 activations in fixed point: see `fix`."""

LARGEST = np.float32(8_000_000)
"""What the largest activation of a block becomes: three digits to base 256 hold up to 8,355,711."""

SPINS = 4000
"""How often a waiting thread looks again before it lets the system run another."""

LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)


class Step(IntEnum):
    """What a row asks for; its other numbers are the parameters of the function that does it."""

    MEET = 0
    NORM = 1
    FIX = 2
    PRODUCT = 3
    TURN = 4
    ATTEND = 5
    GATE = 6


MEET, NORM, FIX, PRODUCT, TURN, ATTEND, GATE = (int(step) for step in Step)

kernel = njit(nogil=True, fastmath=True, error_model="numpy", boundscheck=False)
give_way = types.ExternalFunction("sched_yield", types.int32())


# Products


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

    Parameters: kind, records, bytes a tile, tiles, length, x, bytes of x a thread, out, scale or 0, bias or 0,
    whether to add, claims, chunk.
    """
    kind, records, size, tiles, length = step[1], step[2], step[3], step[4], step[5]
    x, out, scale, bias, adds = step[6] + step[7] * thread, step[8], step[9], step[10], step[11]
    claims, chunk = step[12], step[13]
    first = v.claim(claims) * chunk
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
        first = v.claim(claims) * chunk


# Activations


@kernel
def fix(values: int, blocks: int, out: int) -> None:
    """Turn float32 into fixed point, block by block: 24 bits, as exact as float32 is.

    A block is scaled so that its largest value becomes `LARGEST`, rounded, and written as three signed digits
    to base 256: 32 high ones, 32 middle ones, 32 low ones. After them stand the scale, the sum of the first
    16 values, that of the second 16, and that of all, float32 each.
    """
    for _ in range(blocks):
        first, second = v.floats_at(values), v.floats_at(values + 64)
        most = v.largest(v.larger(v.magnitude(first), v.magnitude(second)))
        factor = LARGEST / most if most > np.float32(1e-30) else np.float32(0)
        for half in range(2):
            part = first if half == 0 else second
            number = v.to_words(v.whole(v.multiply(part, v.splat(factor))))
            low = v.lowest_digit(number)
            number = v.without_digit(number, low)
            middle = v.lowest_digit(number)
            v.put_bytes(out + 16 * half, v.without_digit(number, middle))
            v.put_bytes(out + 32 + 16 * half, middle)
            v.put_bytes(out + 64 + 16 * half, low)
        v.put_float(out + 96, most / LARGEST)
        one, other = v.total(first), v.total(second)
        v.put_float(out + 100, one)
        v.put_float(out + 104, other)
        v.put_float(out + 108, one + other)
        values += 128
        out += FIXED_BYTES


@kernel
def norm(step: Any, thread: int) -> None:
    """Compute rms_norm(x) * weight for each thread by itself, and its fixed point.

    Parameters: x, weight, width, epsilon, out, bytes of out a thread, fixed or 0, bytes of fixed a thread.
    """
    x, weight, width = step[1], step[2], step[3]
    out = step[5] + step[6] * thread
    squares = v.splat(np.float32(0))
    for place in range(0, 4 * width, 64):
        part = v.floats_at(x + place)
        squares = v.multiply_add(part, part, squares)
    mean = v.total(squares) / np.float32(width)
    factor = v.splat(np.float32(1) / np.sqrt(mean + v.float_at(step[4])))
    for place in range(0, 4 * width, 64):
        normed = v.multiply(v.multiply(v.floats_at(x + place), factor), v.floats_at(weight + place))
        v.put_floats(out + place, normed)
    if step[7]:
        fix(out, width // 32, step[7] + step[8] * thread)


@kernel
def exponential(x: Any) -> Any:
    """Compute e^x to float32's precision for x up to 88; below -87 it stays at e^-87."""
    x = v.larger(x, v.splat(np.float32(-87)))
    exponent = v.whole(v.multiply(x, v.splat(LOG2_E)))
    rest = v.multiply_add(exponent, v.splat(-LN2_HIGH), x)
    rest = v.multiply_add(exponent, v.splat(-LN2_LOW), rest)
    series = v.splat(np.float32(1 / 5040))
    series = v.multiply_add(series, rest, v.splat(np.float32(1 / 720)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1 / 120)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1 / 24)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1 / 6)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1 / 2)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1)))
    series = v.multiply_add(series, rest, v.splat(np.float32(1)))
    return v.times_power_of_two(series, exponent)


@kernel
def gate(step: Any) -> None:
    """Compute silu(gate) * up.

    Parameters: gate, up, out, length, claims, chunk (both in lanes of 16).
    """
    gates, ups, out, length, claims, chunk = step[1], step[2], step[3], step[4], step[5], step[6]
    first = v.claim(claims) * chunk
    while first < length:
        for index in range(first, min(first + chunk, length)):
            x = v.floats_at(gates + 64 * index)
            below = v.larger(x, v.splat(np.float32(-80)))
            power = exponential(v.multiply(below, v.splat(np.float32(-1))))
            silu = v.divide(x, v.add(power, v.splat(np.float32(1))))
            v.put_floats(out + 64 * index, v.multiply(silu, v.floats_at(ups + 64 * index)))
        first = v.claim(claims) * chunk


# Attention


@kernel
def turn(step: Any, position: int) -> None:
    """Rotate the pairs of each head by the position's angles, and store keys and values in the cache.

    Parameters: vector, heads, head size, cosines, sines, angles, cache or 0, positions of capacity, claims,
    distance between the two of a pair, distance between pairs.
    """
    vector, heads, size, cosines, sines, angles = step[1], step[2], step[3], step[4], step[5], step[6]
    cache, capacity, claims, apart, pairs = step[7], step[8], step[9], step[10], step[11]
    head = v.claim(claims)
    while head < heads:
        place = vector + 4 * size * head
        target = cache + 4 * size * (capacity * head + position) if cache else place
        if cache:
            for part in range(0, 4 * size, 64):
                v.put_floats(target + part, v.floats_at(place + part))
        for angle in range(angles):
            cosine, sine = v.float_at(cosines + 4 * angle), v.float_at(sines + 4 * angle)
            left = 4 * pairs * angle
            x, y = v.float_at(place + left), v.float_at(place + left + 4 * apart)
            v.put_float(target + left, x * cosine - y * sine)
            v.put_float(target + left + 4 * apart, x * sine + y * cosine)
        head = v.claim(claims)


@kernel
def attend(step: Any, thread: int, position: int) -> None:
    """Let each head attend to the cached positions up to this one.

    Parameters: queries, heads, heads a group, head size, keys, values, positions of capacity, out, scores,
    bytes of scores a thread, scale, claims, window or 0.
    """
    heads, members, size, capacity = step[2], step[3], step[4], step[7]
    scores = step[9] + step[10] * thread
    scale = v.float_at(step[11])
    start = max(0, position + 1 - step[13]) if step[13] else 0
    span = position + 1 - start
    lanes = (span + 15) // 16
    head = v.claim(step[12])
    while head < heads:
        query, out = step[1] + 4 * size * head, step[8] + 4 * size * head
        before = 4 * size * (capacity * (head // members) + start)
        keys, values = step[5] + before, step[6] + before
        v.put_floats(scores + 64 * (lanes - 1), v.splat(np.float32(-1e30)))
        for index in range(span):
            sums = v.splat(np.float32(0))
            for part in range(0, 4 * size, 64):
                sums = v.multiply_add(v.floats_at(query + part), v.floats_at(keys + part), sums)
            v.put_float(scores + 4 * index, v.total(sums) * scale)
            keys += 4 * size
        most = v.splat(np.float32(-1e30))
        for lane in range(lanes):
            most = v.larger(most, v.floats_at(scores + 64 * lane))
        most = v.splat(-v.largest(most))
        sums = v.splat(np.float32(0))
        for lane in range(lanes):
            weight = exponential(v.add(v.floats_at(scores + 64 * lane), most))
            sums = v.add(sums, weight)
            v.put_floats(scores + 64 * lane, weight)
        factor = v.splat(np.float32(1) / v.total(sums))
        for part in range(0, 4 * size, 64):
            mixed = v.splat(np.float32(0))
            for index in range(span):
                weight = v.splat_float_at(scores + 4 * index)
                mixed = v.multiply_add(weight, v.floats_at(values + 4 * size * index + part), mixed)
            v.put_floats(out + part, v.multiply(mixed, factor))
        head = v.claim(step[12])


# The walk


@kernel
def meet(place: int, arrived: int) -> None:
    """Wait until all threads are here: the last of them makes the count `arrived`."""
    if v.claim(place) + 1 == arrived:
        return
    spins = 0
    while v.current(place) < arrived:
        spins += 1
        if spins > SPINS:
            give_way()


@njit(
    types.void(types.int64[:, ::1], types.int64, types.int64, types.int64, types.int64),
    nogil=True,
    fastmath=True,
    error_model="numpy",
    boundscheck=False,
    cache=True,
)
def walk(steps: Any, meeting: int, thread: int, threads: int, position: int) -> None:
    """Do a program's steps as thread `thread` of `threads`, which all call this at once.

    Parameters
    ----------
    steps
        int64 ``[n, COLUMNS]``.
    meeting
        Where the int64 lies that counts arrivals; 0 at the start, as are all claims.
    position
        The token's place in the sequence.
    """
    arrived = 0
    for index in range(len(steps)):
        step = steps[index]
        code = step[0]
        if code == MEET:
            arrived += threads
            meet(meeting, arrived)
        elif code == PRODUCT:
            product(step, thread)
        elif code == NORM:
            norm(step, thread)
        elif code == FIX:
            fix(step[1], step[2], step[3] + step[4] * thread)
        elif code == TURN:
            turn(step, position)
        elif code == ATTEND:
            attend(step, thread, position)
        elif code == GATE:
            gate(step)
