"""Some positions of a batch on their way through the model and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.gradients.gradient_pass import GradientPass, LayerEndError
from studio.engine.gradients.tape import Tape
from studio.engine.operators import cross_entropy

if TYPE_CHECKING:
    from studio.contracts import Cancelled
    from studio.engine.backend import Array, Backend
    from studio.engine.gradients.batch import LearningBatch
    from studio.engine.gradients.delta_gradients import DeltaGradients
    from studio.engine.gradients.exchange import KeysAndValues
    from studio.engine.gradients.traced import Traced
    from studio.engine.model import Model
    from studio.engine.weights import Weights


class BatchPart:
    """Goes forward once, and then back in one of two ways.

    Parameters
    ----------
    backend, model, weights
        The engine's own.
    deltas
        Collect the gradients of this part.
    batch
        Its positions.
    cache
        Joins it with the parts before and after.
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
        batch: LearningBatch,
        cache: KeysAndValues,
        head_columns: int,
        cancelled: Cancelled,
    ) -> None:
        self.deltas = deltas
        self._backend = backend
        self._model = model
        self._weights = weights
        self._batch = batch
        self._cache = cache
        self._head_columns = head_columns
        self._cancelled = cancelled
        self._tape = Tape(deltas.xp)
        self._entered: list[Traced] = []
        self._hidden: Traced | None = None
        self._gradient: Array = None  # of what enters the head

    def forward(self, *, by_layer: bool = False) -> float:
        """Return the loss. With `by_layer`, only what enters the layers is remembered."""
        run = self._pass(self._tape, entered=self._entered if by_layer else None)
        self._hidden = self._model.hidden(run)
        total, self._gradient = self._head(run, self._hidden)
        return total

    def backward(self) -> None:
        """Go back as far as anything asks for gradients."""
        assert self._hidden is not None
        if self._hidden.slot.wanted:
            self._tape.play(self._hidden, self._gradient)

    @property
    def lowest(self) -> int:
        """The first layer, counted from 0, that anything in it or below asks for gradients."""
        wanted = [x.slot.wanted for x in self._entered[1:]]
        return wanted.index(True) if True in wanted else len(wanted)

    def backward_by_layer(self, lowest: int) -> None:
        """Go back to a layer; each runs again."""
        self.backward()  # as far as the layers
        x = self._entered.pop()
        while len(self._entered) > lowest:
            gradient, x = x.slot.take(), self._entered.pop()
            x.slot.receive(self._through(len(self._entered), x, gradient))

    def clear(self) -> None:
        """Let go of what was remembered: it holds itself, and would wait for the garbage collector."""
        self._tape.clear()

    def _through(self, layer: int, x: Traced, gradient: Array) -> Array:
        """Run one layer again, and go back through it; return the gradient of what enters it."""
        with Tape(self.deltas.xp) as tape:
            entering = tape.trace(x.value, wanted=x.slot.wanted)
            resumed = None if layer == 0 else entering  # the embedding collects gradients, too
            run = self._pass(tape, first_layer=layer, last_layer=layer, resumed=resumed)
            try:
                self._model.hidden(run)
            except LayerEndError as end:
                output = end.x
            tape.play(output, gradient)
            return entering.slot.take()

    def _pass(
        self,
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
            self.deltas,
            self._batch,
            self._cache,
            tape,
            self._cancelled,
            first_layer=first_layer,
            last_layer=last_layer,
            resumed=resumed,
            entered=entered,
        )

    def _head(self, run: GradientPass, hidden: Traced) -> tuple[float, Array]:
        """Return the loss, and its gradient with respect to what enters the head, ``[width, N * T]``."""
        backend, batch, total = self._backend, self._batch, 0.0
        gradient = backend.xp.zeros_like(hidden.value)
        columns = batch.columns
        for first in range(0, len(columns), self._head_columns):
            run.poll()
            chosen = columns[first : first + self._head_columns]
            on_device = backend.to_device(chosen)
            with Tape(self.deltas.xp) as tape:  # of its own: logits are large, and let go of at once
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
