"""The gradients of one batch: all layers at once, or layer by layer where memory is short."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from studio.engine.gradients.gradient_pass import GradientPass, LayerEndError
from studio.engine.gradients.tape import Tape
from studio.engine.operators import cross_entropy

if TYPE_CHECKING:
    from studio.contracts import Cancelled
    from studio.engine.backend import Array, Backend
    from studio.engine.gradients.batch import LearningBatch
    from studio.engine.gradients.delta_gradients import DeltaGradients
    from studio.engine.gradients.traced import Traced
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
        How many columns go through the head at once.
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
        with Tape(self._backend.xp) as tape:
            run = self._pass(batch, tape)
            hidden = self._model.hidden(run)
            total, gradient = self._head(run, hidden, batch)
            if hidden.slot.wanted and math.isfinite(total):
                tape.play(hidden, gradient)
        return total

    def layer_by_layer(self, batch: LearningBatch) -> float:
        """Return the same, with only what enters the layers remembered: each runs again on the way back.

        Chen et al. 2016, https://arxiv.org/abs/1604.06174, section 4.2. The gradients are the same to the
        last bit.
        """
        entered: list[Traced] = []
        with Tape(self._backend.xp) as tape:
            run = self._pass(batch, tape, entered=entered)
            hidden = self._model.hidden(run)
            total, gradient = self._head(run, hidden, batch)
            if not math.isfinite(total):
                return total
            tape.play(hidden, gradient)  # as far as the layers
        x = entered.pop()
        while entered and x.slot.wanted:
            gradient, x = x.slot.take(), entered.pop()
            x.slot.receive(self._through(batch, len(entered), x, gradient))
        return total

    def _through(self, batch: LearningBatch, layer: int, x: Traced, gradient: Array) -> Array:
        """Run one layer again, and go back through it; return the gradient of what enters it."""
        with Tape(self._backend.xp) as tape:
            entering = tape.trace(x.value, wanted=x.slot.wanted)
            resumed = None if layer == 0 else entering  # the embedding collects gradients, too
            run = self._pass(batch, tape, first_layer=layer, last_layer=layer, resumed=resumed)
            try:
                self._model.hidden(run)
            except LayerEndError as end:
                output = end.x
            tape.play(output, gradient)
            return entering.slot.take()

    def _pass(
        self,
        batch: LearningBatch,
        tape: Tape,
        *,
        first_layer: int = 0,
        last_layer: int | None = None,
        resumed: Traced | None = None,
        entered: list[Traced] | None = None,
    ) -> GradientPass:
        return GradientPass(
            self._backend,
            self._weights,
            self._deltas,
            batch.tokens,
            batch.horizon,
            tape,
            self._cancelled,
            first_layer=first_layer,
            last_layer=last_layer,
            resumed=resumed,
            entered=entered,
        )

    def _head(self, run: GradientPass, hidden: Traced, batch: LearningBatch) -> tuple[float, Array]:
        """Return the loss, and its gradient with respect to what enters the head, ``[width, N * T]``."""
        backend, total = self._backend, 0.0
        gradient = backend.xp.zeros_like(hidden.value)
        columns = batch.columns
        for first in range(0, len(columns), self._head_columns):
            run.poll()
            chosen = columns[first : first + self._head_columns]
            on_device = backend.to_device(chosen)
            with Tape(backend.xp) as tape:  # of its own: logits are large, and let go of at once
                part = tape.trace(hidden.value[:, on_device], wanted=hidden.slot.wanted)
                logits = self._model.logits(run, part)
                losses, of_logits = cross_entropy(
                    backend.xp,
                    logits.value,
                    backend.to_device(batch.targets[chosen]),
                    backend.to_device(batch.weights[chosen]),
                    wanted=logits.slot.wanted,
                )
                total += float(backend.to_host(losses).sum())
                if logits.slot.wanted:
                    tape.play(logits, of_logits)
            if hidden.slot.wanted:
                gradient[:, on_device] = part.slot.take()
        return total, gradient
