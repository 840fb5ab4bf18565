"""Gives the tensors whose delta suffers most a finer type, inside a size: greedy, by measured loss a byte."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.quantise import can_quantise
from studio.lora.storing import Storage, storage_for, store, values_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studio.contracts import FloatArray, RawModel
    from studio.lora.merging import PendingDelta, TensorPlan
    from studio.lora.storing import RoundingChoice

FINER_TYPES = ("Q3_K", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0", "F16")
"""What a tensor may be given in place of its own type."""

SAMPLE_RUNS, SAMPLE_ROWS = 8, 8
"""How many runs of how many rows of a tensor are stored to measure what a type loses."""


@dataclass(frozen=True)
class Candidate:
    """One way to store a tensor: how many bytes it takes, and the share of the outputs' power lost."""

    storage: Storage
    nbytes: int
    loss: float


def candidates(
    base: RawModel,
    plan: TensorPlan,
    delta: PendingDelta,
    rounding: RoundingChoice,
    power: FloatArray | None = None,
) -> list[Candidate]:
    """Measure the type that a tensor has and all that are finer on some of its rows; its own comes first.

    Parameters
    ----------
    power
        float32 ``[in]``: the mean square of each input; None takes all for equal.
    """
    width = plan.shape[-1]
    row_bytes = GGML_TYPES_BY_NAME[plan.base_type].row_bytes(width)
    finer = [
        name
        for name in FINER_TYPES
        if can_quantise(name, width) and GGML_TYPES_BY_NAME[name].row_bytes(width) > row_bytes
    ]
    storages = [plan.storage, *(storage_for(plan.base_type, name, rounding) for name in finer)]
    samples = [
        (base.raw_rows(plan.source, rows), delta.rows(rows)) for rows in plan.sample(SAMPLE_RUNS, SAMPLE_ROWS)
    ]  # of stored rows and what is added to them
    rows = sum(piece.stop - piece.start for piece in plan.pieces())
    random = np.random.default_rng(0)
    found = []
    for storage in storages:
        lost = kept = 0.0
        for stored, added in samples:
            old = values_of(stored, plan.base_type)
            merged = old + added
            data = store(old, added, stored, plan.base_type, storage, random=random)
            error = values_of(data, storage.type_name) - merged
            lost += _power(error, power)
            kept += _power(merged, power)
        nbytes = rows * GGML_TYPES_BY_NAME[storage.type_name].row_bytes(width)
        found.append(Candidate(storage, nbytes, lost / kept if kept else 0.0))
    return found


def promote(choices: Mapping[str, Sequence[Candidate]], extra_bytes: int) -> dict[str, Storage]:
    """Choose a storage for each tensor so that all together take at most so many bytes more than at first.

    Step by step the tensor that gains most a byte is promoted; the first candidate is where it begins.
    """
    chosen = {name: found[0] for name, found in choices.items()}
    steps = [step for name, found in choices.items() for step in _steps(name, found[0], found)]
    heapq.heapify(steps)
    while steps:
        _, name, number = heapq.heappop(steps)
        now, then = chosen[name], choices[name][number]
        cost = then.nbytes - now.nbytes
        if cost > extra_bytes or then.loss >= now.loss or cost <= 0:
            continue
        extra_bytes -= cost
        chosen[name] = then
        steps = [step for step in steps if step[1] != name] + _steps(name, then, choices[name])
        heapq.heapify(steps)
    return {name: candidate.storage for name, candidate in chosen.items()}


def _steps(name: str, now: Candidate, found: Sequence[Candidate]) -> list[tuple[float, str, int]]:
    """Return the promotions of a tensor from where it is, the best with the least first number."""
    return [
        (-(now.loss - then.loss) / (then.nbytes - now.nbytes), name, number)
        for number, then in enumerate(found)
        if then.nbytes > now.nbytes and then.loss < now.loss
    ]


def _power(rows: FloatArray, power: FloatArray | None) -> float:
    """Return the power of the outputs ``rows @ x`` for independent inputs of this power."""
    squares = np.square(rows).sum(axis=0, dtype=np.float64)  # [in]
    return float(squares.sum() if power is None else squares @ power)
