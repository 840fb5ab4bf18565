"""Losses of texts under blends, and their gradients: what training and the search for a blend ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from studio.contracts import NO_DROPOUT, Example, Gradients, Loss
from studio.engine.batching import batches
from studio.engine.delta_gradients import DeltaGradients
from studio.engine.forward import BlendPass
from studio.engine.gradient_pass import GradientPass
from studio.engine.kv_cache import KvCache
from studio.engine.operators import cross_entropy
from studio.engine.tape import Tape, Traced
from studio.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import BlendState, Cancelled, Dropout
    from studio.engine.adapter_bank import AdapterBank
    from studio.engine.backend import Array, Backend, HostArray
    from studio.engine.model import Model
    from studio.engine.weights import Weights

PASS_COLUMNS = 512
"""How many columns (sequences times positions) run side by side: more gain no speed and cost memory."""

HEAD_COLUMNS = 64
"""How many columns go through the head at once: its output is ``[vocabulary, columns]``."""

MEMORY_SHARE = 0.4
"""Which part of the free memory what a pass remembers may take; beyond it layers are run a second time."""


class Batch(NamedTuple):
    """Sequences of one pass, padded.

    Attributes
    ----------
    tokens
        int64 ``[N, T]``: all that is read.
    targets
        int64 ``[N * T]``: what each position is to predict.
    weights
        float32 ``[N * T]``: how much that counts; 0 in the padding.
    """

    tokens: HostArray
    targets: HostArray
    weights: HostArray

    @property
    def columns(self) -> HostArray:
        """The positions that count."""
        return np.flatnonzero(self.weights)


def padded(examples: Sequence[Example]) -> Batch:
    """Put examples into one batch; the last token of each is only predicted."""
    longest = max(len(example.tokens) for example in examples) - 1
    tokens = np.zeros((len(examples), longest), dtype=np.int64)
    targets, weights = np.zeros_like(tokens), np.zeros(tokens.shape, dtype=np.float32)
    for row, example in enumerate(examples):
        count = len(example.tokens) - 1
        tokens[row, :count] = example.tokens[:-1]
        tokens[row, count:] = example.tokens[-1]
        targets[row, :count] = example.tokens[1:]
        weights[row, :count] = example.weights[1:]
    return Batch(tokens, targets.reshape(-1), weights.reshape(-1))


class Learner:
    """Computes on an open base with its adapters.

    Parameters
    ----------
    backend, model, weights, bank
        The engine's own.
    """

    def __init__(self, backend: Backend, model: Model, weights: Weights, bank: AdapterBank) -> None:
        self._backend = backend
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
            numbers = [pairs[index][1] for index in part]
            batch = padded([pairs[index][0] for index in part])
            totals = self._plain(batch, [states[number] for number in numbers], cancelled)
            for index, total in zip(part, totals, strict=True):
                example, number = pairs[index]
                losses[number] += Loss(float(total), example.weight)
        return losses

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
        deltas = DeltaGradients(self._bank, state, train, dropout)
        loss = Loss(0.0, 0.0)
        for part in self._parts(examples):
            chosen = [examples[index] for index in part]
            total = self._noted(padded(chosen), deltas, cancelled)
            loss += Loss(total, sum(example.weight for example in chosen))
            deltas.passes += 1
        return Gradients(loss, deltas.scales(), deltas.factors())

    def _parts(self, examples: Sequence[Example]) -> Iterator[list[int]]:
        """Yield the numbers of examples that run side by side."""
        lengths = [len(example.tokens) - 1 for example in examples]
        for batch in batches(lengths, self._model.is_long):
            at_once = max(1, PASS_COLUMNS // lengths[batch[0]])
            for first in range(0, len(batch), at_once):
                yield batch[first : first + at_once]

    def _plain(self, batch: Batch, states: Sequence[BlendState], cancelled: Cancelled) -> HostArray:
        """Return the loss of each row under a blend of its own, ``[N]``."""
        rows, length = batch.tokens.shape
        cache = KvCache(self._backend.xp, self._model.cache_shape, rows, length)
        blends = self._bank.bind(states)
        run = BlendPass(self._backend, self._weights, blends, cache, batch.tokens, length, cancelled)
        hidden = self._model.hidden(run)
        cache.advance(length)
        totals = np.zeros(rows)
        # A delta on the head needs its rows in their blends' order, so every column goes through it.
        by_row = hidden.reshape(hidden.shape[0], rows, length)
        for first in range(0, length, max(1, HEAD_COLUMNS // rows)):
            span = slice(first, min(first + max(1, HEAD_COLUMNS // rows), length))
            if not batch.weights.reshape(rows, length)[:, span].any():
                continue
            run.poll()
            part = self._backend.xp.ascontiguousarray(by_row[:, :, span]).reshape(hidden.shape[0], -1)
            losses, _ = self._cross_entropy(
                self._model.logits(run, part),
                batch.targets.reshape(rows, length)[:, span].reshape(-1),
                batch.weights.reshape(rows, length)[:, span].reshape(-1),
                wanted=False,
            )
            totals += losses.reshape(rows, -1).sum(axis=1)
        return totals

    def _noted(self, batch: Batch, deltas: DeltaGradients, cancelled: Cancelled) -> float:
        """Return the loss of a batch, and let the deltas collect its gradients."""
        tape = Tape(self._backend.xp)
        run = GradientPass(self._backend, self._weights, deltas, batch.tokens, tape, cancelled)
        hidden = self._model.hidden(run)
        total, gradient = self._head(run, hidden, batch)
        if hidden.wanted:
            tape.play(hidden, gradient)
        return total

    def _head(self, run: GradientPass, hidden: Traced, batch: Batch) -> tuple[float, Array]:
        """Return the loss, and its gradient with respect to what enters the head, ``[width, N * T]``."""
        xp, total = self._backend.xp, 0.0
        gradient = xp.zeros_like(hidden.value)
        columns = batch.columns
        for first in range(0, len(columns), HEAD_COLUMNS):
            run.poll()
            chosen = columns[first : first + HEAD_COLUMNS]
            on_device = self._backend.to_device(chosen)
            tape = Tape(xp)  # of its own: logits are large, and let go of at once
            part = Traced(tape, hidden.value[:, on_device], wanted=hidden.wanted)
            logits = self._model.logits(run, part)
            losses, of_logits = self._cross_entropy(
                logits.value, batch.targets[chosen], batch.weights[chosen], wanted=logits.wanted
            )
            total += float(losses.sum())
            if logits.wanted:
                tape.play(logits, of_logits)
            if hidden.wanted:
                gradient[:, on_device] = part.take_gradient()
        return total, gradient

    def _cross_entropy(
        self, logits: Array, targets: HostArray, weights: HostArray, *, wanted: bool
    ) -> tuple[HostArray, Array]:
        """Return the loss of each column on the host, and the gradient of their sum."""
        backend = self._backend
        losses, gradient = cross_entropy(
            backend.xp, logits, backend.to_device(targets), backend.to_device(weights), wanted=wanted
        )
        found = backend.to_host(losses)
        if not np.isfinite(found).all():
            raise EngineError(
                "the loss is not a finite number", remedy="Lower the scales or the learning rate"
            )
        return found, gradient
