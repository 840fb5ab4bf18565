"""Losses of texts under blends, and their gradients: what training and the search for a blend ask for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.contracts import NO_DROPOUT, Gradients, Loss
from studio.engine.batching import batches
from studio.engine.compiled_numpy import fastest_module
from studio.engine.forward import BlendPass
from studio.engine.gradients.backpropagation import Backpropagation
from studio.engine.gradients.batch import LearningBatch
from studio.engine.gradients.delta_gradients import DeltaGradients
from studio.engine.gradients.memory import check_memory, pass_memory
from studio.engine.kv_cache import KvCache
from studio.engine.operators import cross_entropy
from studio.engine.overflow import overflow
from studio.errors import NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import BlendState, Cancelled, Dropout, Example, GradientMemory
    from studio.engine.adapter_bank import AdapterBank
    from studio.engine.backend import Backend, HostArray
    from studio.engine.model import Model
    from studio.engine.weights import Weights

PASS_COLUMNS = 512
"""How many columns (sequences times positions) run side by side: more gain no speed and cost memory."""

HEAD_COLUMNS = 128
"""How many columns of a core go through the head at once: its output is ``[vocabulary, columns]``."""


class Learner:
    """Computes on an open base with its adapters.

    Parameters
    ----------
    backend, model, weights, bank
        The engine's own.
    xp
        The array module that gradients are computed with; None takes the backend's fastest.
    """

    def __init__(
        self, backend: Backend, model: Model, weights: Weights, bank: AdapterBank, xp: Any = None
    ) -> None:
        self._backend = backend
        self._xp = xp
        self._model = model
        self._weights = weights
        self._bank = bank

    def losses(
        self, examples: Sequence[Example], states: Sequence[BlendState], cancelled: Cancelled
    ) -> list[Loss]:
        """Return the loss of all examples under each blend."""
        pairs = [(example, number) for example in examples for number in range(len(states))]
        losses = [Loss(0.0, 0.0)] * len(states)
        for part in self._parts([example for example, _ in pairs]):
            batch = LearningBatch.of([pairs[index][0] for index in part])
            totals = self._plain(batch, [states[pairs[index][1]] for index in part], cancelled)
            for index, total in zip(part, totals, strict=True):
                example, number = pairs[index]
                losses[number] += Loss(float(total), example.weight)
        return losses

    def memory(self, examples: Sequence[Example]) -> GradientMemory:
        """Estimate what `gradients` takes."""
        columns = max(
            len(part) * max(len(examples[index].tokens) - 1 for index in part)
            for part in self._parts(examples)
        )
        at_once = min(columns, HEAD_COLUMNS * self._backend.cores)
        return pass_memory(self._backend, self._model, self._weights, columns, at_once)

    def gradients(
        self,
        examples: Sequence[Example],
        state: BlendState,
        train: str | None = None,
        dropout: Dropout = NO_DROPOUT,
        *,
        cancelled: Cancelled,
    ) -> Gradients:
        """Return the loss of all examples under a blend, with its gradients."""
        xp = self._xp or fastest_module(self._backend)
        deltas = DeltaGradients(self._bank, xp, state, train, dropout)
        memory = self.memory(examples)
        check_memory(memory)
        back = Backpropagation(self._backend, self._model, self._weights, deltas, HEAD_COLUMNS, cancelled)
        loss = Loss(0.0, 0.0)
        for part in self._parts(examples):
            chosen = [examples[index] for index in part]
            batch = LearningBatch.of(chosen)
            total = back.layer_by_layer(batch) if memory.is_short else back.at_once(batch)
            if not math.isfinite(total):
                self._plain(batch, [state] * len(part), cancelled)  # names the layer
                raise NotFiniteError("the loss is not a finite number", remedy="Lower the scales")
            loss += Loss(total, sum(example.weight for example in chosen))
            deltas.dropped.passes += 1
        found = Gradients(loss, deltas.scales(), deltas.factors())
        if not _is_finite(found):
            raise NotFiniteError("the gradients overflow float32", remedy="Lower the scales")
        return found

    def _parts(self, examples: Sequence[Example]) -> Iterator[list[int]]:
        """Yield the numbers of examples that run side by side."""
        lengths = [len(example.tokens) for example in examples]
        for batch in batches(lengths, self._model.is_long):
            at_once = max(1, PASS_COLUMNS // (lengths[batch[0]] - 1))
            for first in range(0, len(batch), at_once):
                yield batch[first : first + at_once]

    def _plain(self, batch: LearningBatch, states: Sequence[BlendState], cancelled: Cancelled) -> HostArray:
        """Return the loss of each row under a blend of its own, ``[N]``."""
        backend, (rows, length) = self._backend, batch.tokens.shape
        cache = KvCache(backend.xp, self._model.cache_shape, rows, length)
        blends = self._bank.bind(states)
        run = BlendPass(backend, self._weights, blends, cache, batch.tokens, batch.horizon, cancelled)
        hidden = self._model.hidden(run)
        cache.advance(length)
        totals = np.zeros(rows)
        # A delta on the head needs its rows in their blends' order, so every column goes through it.
        by_row = hidden.reshape(hidden.shape[0], rows, length)
        targets, weights = (array.reshape(rows, length) for array in (batch.targets, batch.weights))
        at_once = max(1, HEAD_COLUMNS // rows)
        for first in range(0, length, at_once):
            span = slice(first, first + at_once)
            if not weights[:, span].any():
                continue
            run.poll()
            part = backend.xp.ascontiguousarray(by_row[:, :, span]).reshape(hidden.shape[0], -1)
            losses, _ = cross_entropy(
                backend.xp,
                self._model.logits(run, part),
                backend.to_device(targets[:, span].reshape(-1)),
                backend.to_device(weights[:, span].reshape(-1)),
                wanted=False,
            )
            totals += backend.to_host(losses).reshape(rows, -1).sum(axis=1)
        if not np.isfinite(totals).all():
            raise overflow(cache, is_base=blends is None)
        return totals


def _is_finite(gradients: Gradients) -> bool:
    scales = (value for by_module in gradients.scales.values() for value in by_module.values())
    factors = (factor for pair in gradients.factors.values() for factor in (pair.a, pair.b))
    return all(map(math.isfinite, scales)) and all(np.isfinite(factor).all() for factor in factors)
