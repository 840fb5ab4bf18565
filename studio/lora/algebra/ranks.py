"""How many singular values are enough: limits on the rank, and what each rank costs in error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from studio.lora.algebra.singular import Doubles


@dataclass(frozen=True)
class RankLimit:
    """The rank a module is cut to: the least that any of these asks for, and at least 1.

    `sv_ratio`, `sv_fro` and `sv_cumulative` are the dynamic methods of kohya's resize_lora.py
    (https://github.com/kohya-ss/sd-scripts).

    Attributes
    ----------
    rank
        At most so many; 0 for no limit.
    energy
        Keep this share of the squared Frobenius norm; 1 for all of it.
    sv_ratio
        Keep singular values above the largest over this; 0 for all of them.
    sv_fro
        Keep this share of the Frobenius norm; 1 for all of it.
    sv_cumulative
        Keep this share of the sum of the singular values; 1 for all of it.
    """

    rank: int = 0
    energy: float = 1.0
    sv_ratio: float = 0.0
    sv_fro: float = 1.0
    sv_cumulative: float = 1.0

    def __bool__(self) -> bool:
        """Say whether it limits anything."""
        return self != RankLimit()

    @property
    def fixed(self) -> bool:
        """Whether it is the same rank for every module."""
        return self.rank > 0 and self == RankLimit(self.rank)

    def of(self, values: Doubles) -> int:
        """Return the rank for a module's singular values, all of them, descending ``[K]``.

        Experts ``[E, K]`` get the largest rank that one of them needs.
        """
        if values.ndim == 2:
            return max(self.of(expert) for expert in values)
        enough = [len(values), self.rank or len(values)]
        squares = values**2
        if self.energy < 1:
            enough.append(_fewest(squares, self.energy))
        if self.sv_fro < 1:
            enough.append(_fewest(squares, self.sv_fro**2))
        if self.sv_cumulative < 1:
            enough.append(_fewest(values, self.sv_cumulative))
        if self.sv_ratio > 0:
            enough.append(int(np.count_nonzero(values > values[0] / self.sv_ratio)))
        return max(1, min(enough))


def error_curve(spectra: Iterable[Doubles]) -> Doubles:
    """Return the error of cutting all modules to rank 0, 1, 2 and so on, float64 ``[K + 1]``.

    It is ||dW - dW_k||_F / ||dW||_F over all modules together, which by Eckart and Young is the least any
    adapter of that rank can have.

    Parameters
    ----------
    spectra
        All singular values of each module, as `singular_values` returns them.
    """
    rows = [row for spectrum in spectra for row in np.atleast_2d(spectrum)]
    left_out = np.zeros(max((len(row) for row in rows), default=0) + 1)
    for row in rows:
        left_out[: len(row)] += np.cumsum(row[::-1] ** 2)[::-1]  # at k: the squares from the k-th on
    return np.sqrt(left_out / left_out[0]) if left_out[0] > 0 else left_out


def cut_error(spectra: Iterable[Doubles], ranks: Iterable[int]) -> float:
    """Return ||dW - dW_k||_F / ||dW||_F over all modules together, each cut to a rank of its own."""
    left_out = total = 0.0
    for spectrum, rank in zip(spectra, ranks, strict=True):
        total += float((spectrum**2).sum())
        left_out += float((spectrum[..., rank:] ** 2).sum())
    return float(np.sqrt(left_out / total)) if total > 0 else 0.0


def _fewest(values: Doubles, share: float) -> int:
    """Return how many of the first values add up to this share of them all."""
    sums = np.cumsum(values)
    return int(np.searchsorted(sums, share * sums[-1])) + 1
