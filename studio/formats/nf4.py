"""NF4 with double quantisation: weights in 4.13 bits each, as QLoRA holds its base.

Dettmers et al. 2023, https://arxiv.org/abs/2305.14314: blocks of 64 values share a scale, their largest
magnitude, and each value is the nearest of 16 quantiles of a normal distribution (section 3 and appendix E).
The scales, less their mean, are themselves stored in 8 bits, in blocks of 256 (section 3, "Double
Quantization"). Codes and scales are those of bitsandbytes, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from studio.contracts import FloatArray

    ByteArray = np.ndarray[Any, np.dtype[np.uint8]]

BLOCK = 64
"""How many values share a scale."""

SCALE_BLOCK = 256
"""How many scales share theirs."""

QUANTILES: FloatArray = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)
"""The 16 values of NF4 (Dettmers et al. 2023, appendix E)."""


def _dynamic_values() -> FloatArray:
    """Return the 256 values of the 8-bit type of scales: a sign, a power of ten, and a linear fraction.

    The higher the power, the more bits are left to the fraction: Dettmers et al. 2021,
    https://arxiv.org/abs/2110.02861, section 1.3. 0 and 1 stand for themselves.
    """
    values = [np.zeros(1, np.float32), np.ones(1, np.float32)]
    for bits in range(7):
        middles = _middles(_evenly(np.float32(0.1), np.float32(1), 2**bits))
        scaled = np.float32(10.0 ** (bits - 6)) * middles
        values += [scaled, -scaled]
    return np.sort(np.concatenate(values))


def _evenly(first: np.float32, last: np.float32, steps: int) -> FloatArray:
    """Return evenly spaced numbers, from both ends to the middle, as torch rounds them."""
    step = np.float64((last - first) / np.float32(steps))
    numbers = np.arange(steps + 1)
    from_first, from_last = first + step * numbers, last - step * (steps - numbers)
    return np.where(numbers < (steps + 1) // 2, from_first, from_last).astype(np.float32)


def _middles(values: FloatArray) -> FloatArray:
    """Return what lies in the middle of neighbours."""
    middles: FloatArray = (values[:-1] + values[1:]) / np.float32(2)
    return middles


SCALE_VALUES = _dynamic_values()
PAIRS = np.stack([np.repeat(QUANTILES, 16), np.tile(QUANTILES, 16)], axis=1).view(np.uint64)[:, 0]
"""Both values of each byte as one number: the first is that of its upper half."""

AT_ONCE = 1 << 18
"""How many values are worked on at once while a tensor is quantised: 1 MB, which a cache holds."""


@dataclass(frozen=True)
class Nf4Tensor:
    """A tensor in NF4, its values in one row of blocks.

    Attributes
    ----------
    shape
        ``(..., in)``.
    codes
        uint8 ``[blocks * 32]``: two quantiles a byte, the first in the upper half.
    scales
        uint8 ``[blocks]``: which of `SCALE_VALUES`.
    scale_maxima
        float32 ``[blocks / 256]``, rounded up: what those are multiplied by.
    offset
        The mean of all scales, which is added back.
    """

    shape: tuple[int, ...]
    codes: ByteArray
    scales: ByteArray
    scale_maxima: FloatArray
    offset: np.float32

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.codes.nbytes + self.scales.nbytes + self.scale_maxima.nbytes + 4

    def dense(self) -> FloatArray:
        """Return all values as float32 in their shape."""
        return self.rows(slice(0, int(np.prod(self.shape[:-1])))).reshape(self.shape)

    def rows(self, rows: slice) -> FloatArray:
        """Return a run of rows as float32 ``[rows, in]``, all outer dimensions taken as one."""
        width = self.shape[-1]
        start, stop = rows.start * width, rows.stop * width
        first, last = start // BLOCK, -(-stop // BLOCK)
        values = PAIRS[self.codes[first * BLOCK // 2 : last * BLOCK // 2]]
        blocks = values.view(np.float32).reshape(-1, BLOCK)
        blocks *= self._block_scales(first, last)[:, None]
        return blocks.reshape(-1)[start - first * BLOCK : stop - first * BLOCK].reshape(-1, width)

    def _block_scales(self, first: int, last: int) -> FloatArray:
        """Return the scales of a run of blocks as float32."""
        maxima = self.scale_maxima[np.arange(first, last) // SCALE_BLOCK]
        scales: FloatArray = SCALE_VALUES[self.scales[first:last]] * maxima + self.offset
        return scales


def quantise_nf4(values: FloatArray) -> Nf4Tensor:
    """Turn finite float32 values of any shape into NF4. The last block is filled up with zeros."""
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    count = -(-flat.size // BLOCK)
    codes, maxima = np.empty(count * BLOCK // 2, np.uint8), np.empty(count, np.float32)
    for start in range(0, flat.size, AT_ONCE):
        part = flat[start : start + AT_ONCE]
        blocks = np.zeros((-(-part.size // BLOCK), BLOCK), np.float32)
        blocks.reshape(-1)[: part.size] = part
        its = slice(start // BLOCK, start // BLOCK + len(blocks))
        maxima[its] = np.abs(blocks).max(axis=1)
        codes[its.start * BLOCK // 2 : its.stop * BLOCK // 2] = _codes(blocks, maxima[its])
    offset = np.float32(maxima.mean(dtype=np.float64))
    return Nf4Tensor(values.shape, codes, *_quantise_scales(maxima - offset), offset)


def nf4_bytes(shape: tuple[int, ...]) -> int:
    """Return how many bytes a tensor of a shape takes in NF4."""
    blocks = -(-int(np.prod(shape, dtype=object)) // BLOCK)
    return blocks * BLOCK // 2 + blocks + 4 * -(-blocks // SCALE_BLOCK) + 4


def _codes(blocks: FloatArray, maxima: FloatArray) -> ByteArray:
    """Return the nearest quantile of each value of blocks ``[N, 64]``, two a byte."""
    relative = (blocks / _or_one(maxima)[:, None]).reshape(-1)
    nearest, above = np.zeros(relative.shape, np.uint8), np.empty(relative.shape, np.bool_)
    for middle in _middles(QUANTILES):  # ten times as fast as a binary search of each value
        nearest += np.greater(relative, middle, out=above).view(np.uint8)
    packed = nearest[0::2] << np.uint8(4)
    packed |= nearest[1::2]
    return packed


def _quantise_scales(scales: FloatArray) -> tuple[ByteArray, FloatArray]:
    """Return the nearest 8-bit value of each scale, and what each block of them is multiplied by."""
    maxima = np.maximum.reduceat(np.abs(scales), np.arange(0, len(scales), SCALE_BLOCK))
    relative = scales / np.repeat(_or_one(maxima), SCALE_BLOCK)[: len(scales)]
    return np.searchsorted(_middles(SCALE_VALUES), relative).astype(np.uint8), maxima


def _or_one(maxima: FloatArray) -> FloatArray:
    """Return what to divide by: where all is zero, anything does."""
    return np.where(maxima > 0, maxima, np.float32(1))
