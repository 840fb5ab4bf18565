"""The compiled steps of a token, and the walk through a program of them that every thread makes at once.

A program is a table of int64, one step a row: `Step` and what `program.py` writes after it. Operands are
addresses. Work is claimed in chunks, so that a thread that the system holds up does not hold up the others.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import numpy as np
from numba import types

from studio.engine.kernels import vectors as v
from studio.engine.kernels.claims import claim, current
from studio.engine.kernels.compilation import compiled, kernel
from studio.engine.kernels.exponential import exponential
from studio.engine.kernels.products import FIXED_BYTES, product, spread

COLUMNS = 20
"""How many numbers describe a step."""

LARGEST = np.float32(8_000_000)
"""What the largest activation of a block becomes: three digits to base 256 hold up to 8,355,711."""

SPINS = 4000
"""How often a waiting thread looks again before it lets the system run another: some microseconds."""

YIELDS = 100
"""How often it does that before it sleeps, so that a thread it waits for may take over its core."""

NAP = 20
"""For how many microseconds it sleeps; the system makes it 70."""

INFINITY, NOT_A_NUMBER = np.float32(np.inf), np.float32(np.nan)


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
sleep = types.ExternalFunction("usleep", types.int32(types.uint32))


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
def moments(x: int, width: int, epsilon: float, centred: int) -> Any:
    """Return what is taken off x, its mean or nothing, and the factor that makes the rest's mean square 1.

    The factor is NaN where a square overflows, which would else come out as 0 and go unseen.
    """
    mean = np.float32(0)
    if centred:
        sums = v.splat(np.float32(0))
        for place in range(0, 4 * width, 64):
            sums = v.add(sums, v.floats_at(x + place))
        mean = v.total(sums) / np.float32(width)
    less = v.splat(-mean)
    squares = v.splat(np.float32(0))
    for place in range(0, 4 * width, 64):
        part = v.add(v.floats_at(x + place), less)
        squares = v.multiply_add(part, part, squares)
    square = v.total(squares) / np.float32(width)
    factor = np.float32(1) / np.sqrt(square + epsilon)
    if square == INFINITY:
        factor = NOT_A_NUMBER
    return mean, factor


@kernel
def norm(step: Any, thread: int) -> None:
    """Compute (x - mean) / root mean square * weight + bias for each thread by itself, and its fixed point.

    Parameters: x, bytes of x a thread, weight, bias or 0, width, epsilon, whether to take the mean off, out,
    bytes of out a thread, whether to add to out, fixed or 0, bytes of fixed a thread.
    """
    x, weight, bias, width = step[1] + step[2] * thread, step[3], step[4], step[5]
    out, adds = step[8] + step[9] * thread, step[10]
    mean, ratio = moments(x, width, v.float_at(step[6]), step[7])
    less, factor = v.splat(-mean), v.splat(ratio)
    for place in range(0, 4 * width, 64):
        centred = v.add(v.floats_at(x + place), less)
        normed = v.multiply(v.multiply(centred, factor), v.floats_at(weight + place))
        if bias:
            normed = v.add(normed, v.floats_at(bias + place))
        if adds:
            normed = v.add(normed, v.floats_at(out + place))
        v.put_floats(out + place, normed)
    if step[11]:
        fix(out, width // 32, step[11] + step[12] * thread)


@kernel
def gate(step: Any) -> None:
    """Compute x sigmoid(x (c + d x^2)) * up for the gate x: with c = 1 and d = 0 it is silu, else gelu.

    Parameters: gate, up or 0, out, length, claims, chunk (both in lanes of 16), c and d.
    """
    gates, ups, out, length, claims, chunk = step[1], step[2], step[3], step[4], step[5], step[6]
    linear, cubic = v.splat(-v.float_at(step[7])), v.splat(-v.float_at(step[7] + 4))
    highest = v.splat(np.float32(80))
    first = claim(claims) * chunk
    while first < length:
        for index in range(first, min(first + chunk, length)):
            x = v.floats_at(gates + 64 * index)
            slope = v.multiply_add(v.multiply(x, x), cubic, linear)
            power = exponential(v.smaller(v.multiply(x, slope), highest))
            activated = v.divide(x, v.add(power, v.splat(np.float32(1))))
            if ups:
                activated = v.multiply(activated, v.floats_at(ups + 64 * index))
            v.put_floats(out + 64 * index, activated)
        first = claim(claims) * chunk


# Attention


@kernel
def turn(step: Any, position: int) -> None:
    """Norm each head, rotate its pairs by the position's angles, and write it where it belongs.

    Parameters: vector, heads, head size, cosines, sines, angles, distance between the two of a pair, distance
    between pairs, out, bytes of out a head, bytes of out a position, claims, norm's weight or 0, bytes of
    weight a head, how many values are normed together, epsilon, whether to take the mean off.
    """
    vector, heads, size, cosines, sines, angles = step[1], step[2], step[3], step[4], step[5], step[6]
    apart, pairs, claims, weight, together = step[7], step[8], step[12], step[13], step[15]
    head = claim(claims)
    while head < heads:
        place = vector + 4 * size * head
        target = step[9] + step[10] * head + step[11] * position
        if weight:
            start = place
            if together != size:
                start = vector
            mean, ratio = moments(start, together, v.float_at(step[16]), step[17])
            less, factor = v.splat(-mean), v.splat(ratio)
            weights = weight + step[14] * head
            for part in range(0, 4 * size, 64):
                centred = v.add(v.floats_at(place + part), less)
                v.put_floats(
                    target + part, v.multiply(v.multiply(centred, factor), v.floats_at(weights + part))
                )
        else:
            for part in range(0, 4 * size, 64):
                v.put_floats(target + part, v.floats_at(place + part))
        for angle in range(angles):
            cosine, sine = v.float_at(cosines + 4 * angle), v.float_at(sines + 4 * angle)
            left = target + 4 * pairs * angle
            right = left + 4 * apart
            x, y = v.float_at(left), v.float_at(right)
            v.put_float(left, x * cosine - y * sine)
            v.put_float(right, x * sine + y * cosine)
        head = claim(claims)


@kernel
def attend(step: Any, thread: int, position: int) -> None:
    """Let each head attend to the cached positions up to this one.

    Parameters: queries, heads, heads a group, head size, keys, values, positions of capacity, out, scores,
    bytes of scores a thread, scale, claims, window or 0, soft cap or 0.
    """
    heads, members, size, capacity = step[2], step[3], step[4], step[7]
    scores = step[9] + step[10] * thread
    scale, cap = v.float_at(step[11]), np.float32(0)
    if step[14]:
        cap = v.float_at(step[14])
    start = max(0, position + 1 - step[13]) if step[13] else 0
    span = position + 1 - start
    lanes = (span + 15) // 16
    head = claim(step[12])
    while head < heads:
        query, out = step[1] + 4 * size * head, step[8] + 4 * size * head
        before = 4 * size * (capacity * (head // members) + start)
        keys, values = step[5] + before, step[6] + before
        v.put_floats(scores + 64 * (lanes - 1), v.splat(np.float32(-1e30)))
        overflow = np.float32(0)
        for index in range(span):
            sums = v.splat(np.float32(0))
            for part in range(0, 4 * size, 64):
                sums = v.multiply_add(v.floats_at(query + part), v.floats_at(keys + part), sums)
            score = v.total(sums) * scale
            if not abs(score) < INFINITY:  # the cap and the exponential would hide it
                overflow = NOT_A_NUMBER
            if cap:
                score = cap * np.float32(math.tanh(score / cap))
            v.put_float(scores + 4 * index, score)
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
        factor = v.splat(np.float32(1) / v.total(sums) + overflow)
        for part in range(0, 4 * size, 64):
            mixed = v.splat(np.float32(0))
            for index in range(span):
                weight = v.splat_float_at(scores + 4 * index)
                mixed = v.multiply_add(weight, v.floats_at(values + 4 * size * index + part), mixed)
            v.put_floats(out + part, v.multiply(mixed, factor))
        head = claim(step[12])


# The walk


@kernel
def meet(place: int, arrived: int) -> None:
    """Wait until all threads are here: the last of them makes the count `arrived`."""
    if claim(place) + 1 == arrived:
        return
    spins = 0
    while current(place) < arrived:
        spins += 1
        if spins > SPINS + YIELDS:
            sleep(np.uint32(NAP))
        elif spins > SPINS:
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
            fix(step[1] + step[2] * thread, step[3], step[4] + step[5] * thread)
        elif code == TURN:
            turn(step, position)
        elif code == ATTEND:
            attend(step, thread, position)
        elif code == GATE:
            gate(step)
        elif code == SPREAD:
            spread(step)
