"""The compiled steps of a token, and the walk through a program of them that every thread makes at once.

A program is a table of int64, one step a row: `Step` and what `program.py` writes after it. Operands are
addresses. Work is claimed in chunks, so that a thread that the system holds up does not hold up the others.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numba import types

from studio.engine.kernels import vectors as v
from studio.engine.kernels.compilation import compiled, kernel
from studio.engine.kernels.products import FIXED_BYTES, product, spread

COLUMNS = 16
"""How many numbers describe a step."""

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
    SPREAD = 7


MEET, NORM, FIX, PRODUCT, TURN, ATTEND, GATE, SPREAD = (int(step) for step in Step)

give_way = types.ExternalFunction("sched_yield", types.int32())


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


@compiled(types.void(types.int64[:, ::1], types.int64, types.int64, types.int64, types.int64))
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
        elif code == SPREAD:
            spread(step)
