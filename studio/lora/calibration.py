"""What calibrated rounding knows of one module, found when its first rows are merged."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import never
from studio.formats.grids import grid_of
from studio.formats.quantise import quantise
from studio.lora.kept_delta import Sums
from studio.lora.rounding import compensated_codes, feedback, find_gain
from studio.lora.storing import Calibration, start_of, values_of

if TYPE_CHECKING:
    from studio.contracts import Cancelled, FloatArray, RawModel
    from studio.lora.merging import PendingDelta, TensorPlan

SAMPLE_RUNS, SAMPLE_ROWS = 8, 20
"""How many runs of how many rows of a module its gain is found on."""


class PendingCalibration:
    """Feedback and gain of a module, made once, on whichever thread asks first.

    Parameters
    ----------
    base
        The base.
    plan, delta
        The module and what is added to it.
    moment
        The second moment of its inputs, float32 ``[in, in]``.
    """

    def __init__(self, base: RawModel, plan: TensorPlan, delta: PendingDelta, moment: FloatArray) -> None:
        self._base = base
        self._plan = plan
        self._delta = delta
        self._moment = moment
        self._lock = threading.Lock()
        self._made: Calibration | None = None

    @property
    def made(self) -> Calibration | None:
        """It, where it was asked for."""
        return self._made

    def get(self, cancelled: Cancelled = never) -> Calibration:
        """Return it, made at the first call. Raises `CancelledError` once cancelled."""
        with self._lock:
            if self._made is None:
                self._made = self._make(cancelled)
            return self._made

    def _make(self, cancelled: Cancelled) -> Calibration:
        plan, moment = self._plan, self._moment
        back = feedback(moment)
        sample = plan.sample(SAMPLE_RUNS, SAMPLE_ROWS)
        stored = np.concatenate([self._base.raw_rows(plan.source, rows) for rows in sample])
        base = values_of(stored, plan.base_type)
        delta = np.concatenate([self._delta.rows(rows) for rows in sample])
        start = start_of(stored, plan.base_type, plan.storage)
        if start is not None:
            gain, values = find_gain(
                base, delta, grid_of(start, plan.storage.type_name), moment, back, cancelled
            )
        else:
            grid = grid_of(quantise(base + delta, plan.storage.type_name), plan.storage.type_name)
            gain, values = 1.0, grid.values(compensated_codes(base + delta, grid, back, cancelled))
        return Calibration(back, gain, Sums.of(values - base, delta, moment))
