"""The gradients of one batch: its positions are shared out among the cores, a part each."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from studio.engine.blas_threads import cores_are_shared, one_blas_thread
from studio.engine.gradients.batch_part import BatchPart
from studio.engine.gradients.exchange import Exchange, KeysAndValues
from studio.engine.gradients.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from studio.contracts import Cancelled
    from studio.engine.backend import Backend
    from studio.engine.gradients.batch import LearningBatch
    from studio.engine.gradients.delta_gradients import DeltaGradients
    from studio.engine.gradients.side_by_side import Result
    from studio.engine.model import Model
    from studio.engine.weights import Weights


class Backpropagation:
    """Computes the loss of batches, and lets the deltas of a blend collect its gradients.

    Parameters
    ----------
    backend, model, weights
        The engine's own.
    deltas
        The blend's.
    head_columns
        How many columns of a part go through the head at once.
    cancelled
        Asked at every product, on the way back as well.
    """

    def __init__(
        self,
        backend: Backend,
        model: Model,
        weights: Weights,
        deltas: DeltaGradients,
        head_columns: int,
        cancelled: Cancelled,
    ) -> None:
        self._backend = backend
        self._model = model
        self._weights = weights
        self._deltas = deltas
        self._head_columns = head_columns
        self._cancelled = cancelled

    def at_once(self, batch: LearningBatch) -> float:
        """Return the loss of a batch, and go back if it is finite. Each layer runs once."""
        exchange = Exchange()
        parts = self._parts(batch, exchange)
        try:
            total = math.fsum(self._each(parts, exchange, BatchPart.forward))
            if math.isfinite(total):
                self._each(parts[::-1], exchange, BatchPart.backward)
        finally:
            for part in parts:
                part.clear()
        self._collect(parts)
        return total

    def layer_by_layer(self, batch: LearningBatch) -> float:
        """Return the same, with only what enters the layers remembered: each runs again on the way back.

        Chen et al. 2016, https://arxiv.org/abs/1604.06174, section 4.2. The gradients are the same to the
        last bit.
        """
        exchange = Exchange()
        parts = self._parts(batch, exchange)
        total = math.fsum(self._each(parts, exchange, partial(BatchPart.forward, by_layer=True)))
        if math.isfinite(total):
            lowest = min(part.lowest for part in parts)
            self._each(parts, exchange, partial(BatchPart.backward_by_layer, lowest=lowest), in_turn=False)
        self._collect(parts)
        return total

    def _parts(self, batch: LearningBatch, exchange: Exchange) -> list[BatchPart]:
        spans = batch.spans(self._backend.cores)
        return [
            BatchPart(
                self._backend,
                self._model,
                self._weights,
                self._deltas if number == 0 else self._deltas.apart(span.start),
                batch.part(span),
                KeysAndValues(self._backend.xp, spans, number, exchange),
                self._head_columns,
                self._cancelled,
            )
            for number, span in enumerate(spans)
        ]

    def _each(
        self,
        parts: Sequence[BatchPart],
        exchange: Exchange,
        work: Callable[[BatchPart], Result],
        *,
        in_turn: bool = True,
    ) -> list[Result]:
        """Do the work of each part, none of which waits for one behind it if they are to go in turn.

        They go in turn, on this thread, where others compute as well: a live engine, say, which would be slow
        among many threads. The result is the same to the last bit.
        """
        jobs = [partial(self._backend.run, partial(work, part)) for part in parts]
        if in_turn and cores_are_shared():
            with one_blas_thread():  # to the end of it, whenever the others are done
                return [job() for job in jobs]
        return side_by_side(jobs, exchange.give_up)

    def _collect(self, parts: Sequence[BatchPart]) -> None:
        for part in parts[1:]:
            self._deltas.add(part.deltas)
