"""A forward pass on a tape: the base's weights stay as they are, and the deltas collect their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from studio.engine.forward import BlendPass
from studio.engine.gradients import operator_gradients  # noqa: F401 (the rules: without them nothing flows back)
from studio.engine.gradients.traced import Traced
from studio.engine.model import EMBEDDING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import Cancelled
    from studio.engine.backend import Array, Backend, HostArray
    from studio.engine.gradients.batch import LearningBatch
    from studio.engine.gradients.delta_gradients import DeltaGradients
    from studio.engine.gradients.exchange import KeysAndValues
    from studio.engine.gradients.group_delta import GroupDelta
    from studio.engine.gradients.tape import Tape
    from studio.engine.linear import Linear
    from studio.engine.model import LinearGroup
    from studio.engine.weights import StoredLinear, Weights


class LayerEndError(Exception):
    """The layers that a pass was to run are done; carries what enters the next one."""

    def __init__(self, x: Traced) -> None:
        super().__init__()
        self.x = x


class GradientPass(BlendPass):
    """The `ForwardPass` of N whole sequences under one blend, noted on a tape.

    Parameters
    ----------
    deltas
        The blend's.
    batch
        The sequences, or a part of them.
    cache
        What joins the parts.
    tape
        Where to note.
    first_layer, resumed
        Where to begin, if not with the embedding.
    last_layer
        After which layer to stop with `LayerEndError`; None runs to the end.
    entered
        Takes what enters each layer, and the tape then forgets how it came about; None notes all layers.
    """

    def __init__(
        self,
        backend: Backend,
        weights: Weights,
        deltas: DeltaGradients,
        batch: LearningBatch,
        cache: KeysAndValues,
        tape: Tape,
        cancelled: Cancelled,
        *,
        first_layer: int = 0,
        resumed: Traced | None = None,
        last_layer: int | None = None,
        entered: list[Traced] | None = None,
    ) -> None:
        standing_in: Any = cache
        super().__init__(
            backend,
            weights,
            None,
            standing_in,
            batch.tokens,
            batch.horizon,
            cancelled,
            first_layer=first_layer,
            resumed=resumed,
        )
        self._gradients = deltas
        self._multiply = deltas.multiply
        self.xp = deltas.xp
        self._tape = tape
        self._last_layer = last_layer
        self._inputs = entered

    def enter_layer(self, index: int, x: Any) -> None:
        """Stop here where that is asked for; leave with `CancelledError` once cancelled."""
        self.poll()
        if self._last_layer is not None and index > self._last_layer:
            raise LayerEndError(x)
        if self._inputs is None:
            self._tape.forget()
        else:
            self._inputs.append(x)
            self._tape.clear()

    def embed(self) -> Any:
        """Look the new tokens up in the embedding: ``[width, N * T]``."""
        embedded = super().embed()
        delta = self._gradients.of_group((EMBEDDING,))
        if delta is None:
            return self._tape.trace(embedded, wanted=False)
        tokens = self._tokens.reshape(-1)
        delta.add_to_embedding(self.to_device(tokens), embedded)
        output = self._tape.trace(embedded)
        slot = output.slot
        self._tape.note((slot,), lambda: delta.collect_embedding(tokens, slot.take()))
        return output

    def project(self, names: LinearGroup, inputs: Any) -> tuple[Any, ...]:
        """Multiply the inputs ``[in, N * T]`` by each weight of a group, and add the blend's deltas."""
        return self._apply(self._weights.linears[names], self._gradients.of_group(names), inputs)

    def project_expert(
        self, names: LinearGroup, expert: int, inputs: Any, columns: HostArray
    ) -> tuple[Any, ...]:
        """Multiply some columns ``[in, C]`` by one expert's part of each weight; add the blend's deltas."""
        delta = self._gradients.of_group(names, expert)
        return self._apply(self._weights.experts[names][expert], delta, inputs)

    def to_host(self, array: Any) -> HostArray:
        """Bring the value of an array to the host."""
        return super().to_host(array.value if isinstance(array, Traced) else array)

    def _apply(
        self, linear: Linear | StoredLinear, delta: GroupDelta | None, inputs: Traced
    ) -> tuple[Traced, ...]:
        values: Sequence[Array] = linear.apply(inputs.value, self._multiply)
        applied = None if delta is None else delta.apply(inputs, values)
        tape, slot = inputs.tape, inputs.slot
        wanted = slot.wanted or applied is not None
        outputs = tuple(tape.trace(value, wanted=wanted) for value in values)
        slots = tuple(output.slot for output in outputs)  # alone: the note does not hold the outputs

        def play() -> None:
            self.poll()
            gradients = [its.take() for its in slots]
            of_inputs = linear.apply_transposed(gradients, self._multiply) if slot.wanted else None
            if applied is not None:
                applied.collect(gradients, of_inputs)  # [in, N * T]
            if slot.wanted:
                slot.receive(of_inputs)

        if wanted:
            tape.note(slots, play)
        return outputs
