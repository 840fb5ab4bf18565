"""Keeps the traces of the last evaluations, within bounds, and says from where a new one may begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from studio.engine.kv_cache import KvCache
from studio.engine.layer_scales import LayerScales, first_difference
from studio.engine.trace import Start, Trace

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from studio.engine.kv_cache import CacheShape

MOST_TRACES = 8
"""How many traces are kept at most: a dragged slider leaves one at every move."""


class Match(NamedTuple):
    """What a trace spares: the layers below `layer` at the first `positions`."""

    trace: Trace
    layer: int
    positions: int

    @property
    def spared(self) -> int:
        """How many layers times positions need not run."""
        return self.layer * self.positions


class TraceStore:
    """The traces of one base, the one used last at the end.

    Parameters
    ----------
    xp
        The array module.
    shape
        The model's.
    width
        How wide its hidden states are.
    budget
        How many bytes all traces may take; 0 keeps none.
    """

    def __init__(self, xp: Any, shape: CacheShape, width: int, budget: int) -> None:
        self._xp = xp
        self._shape = shape
        self._budget = budget
        self._position_bytes = shape.position_bytes + 4 * width * (shape.layers + 1)
        self._traces: list[Trace] = []

    @property
    def nbytes(self) -> int:
        """Size in memory; what several traces share is counted for each."""
        return sum(trace.nbytes for trace in self._traces)

    def start(self, rows: Sequence[Sequence[int]], scales: Sequence[LayerScales], is_long: bool) -> Start:
        """Say where to begin with some sequences, each under a blend of its own.

        Sequences of different lengths are run as if all had the longest's. A single one is traced, unless it
        is too long to be kept; hand its trace to `keep` once it has run.
        """
        length = max(map(len, rows))
        found = self._best(rows, scales, is_long)
        is_traced = len(rows) == 1 and length * self._position_bytes <= self._budget
        if found is None:
            cache = KvCache(self._xp, self._shape, len(rows), length)
            nothing: list[list[Any]] = [[] for _ in range(self._shape.layers + 1)]
            return Start(
                cache, trace=Trace(rows[0], scales[0], is_long, cache, nothing) if is_traced else None
            )
        trace, layer, positions = found
        # Where all layers are known, the known positions go no further than the norm, and are wanted only if
        # a sequence ends among them. They come in the passes that they came in, to be rounded alike.
        first = positions if layer == self._shape.layers and positions < min(map(len, rows)) else 0
        inputs = trace.inputs(self._xp, layer, first, positions) if first < positions else None
        if is_traced and layer == self._shape.layers and positions in (length, trace.length):
            return self._go_on(trace, rows[0], first, inputs)
        cache = trace.cache.fork(len(rows), layer, positions, length)
        cache.length = first
        if not is_traced:
            return Start(cache, layer, inputs)
        known = trace.first_inputs(self._xp, layer, positions)
        return Start(cache, layer, inputs, Trace(rows[0], scales[0], is_long, cache, known))

    def keep(self, trace: Trace) -> None:
        """Keep a trace, and let go of those that were used the longest ago."""
        self._traces = [*(other for other in self._traces if other is not trace), trace]
        while self._traces and (len(self._traces) > MOST_TRACES or self.nbytes > self._budget):
            del self._traces[0]

    def keep_only(self, numbers: Collection[int]) -> None:
        """Let go of traces that hear other adapters than these in their first layer: none can use them."""
        self._traces = [
            trace for trace in self._traces if all(number in numbers for number, _ in trace.scales[0])
        ]

    def clear(self) -> None:
        """Let go of all."""
        self._traces = []

    def _best(
        self, rows: Sequence[Sequence[int]], scales: Sequence[LayerScales], is_long: bool
    ) -> Match | None:
        """Return the match that spares the most to all rows; the newest of equal ones, None without any."""
        matches = [
            Match(
                trace,
                min(first_difference(trace.scales, its) for its in scales),
                min(trace.shared(tokens) for tokens in rows),
            )
            for trace in reversed(self._traces)
            if trace.is_long == is_long
        ]
        best = max(matches, key=lambda match: match.spared, default=None)
        return best if best is not None and best.spared else None

    def _go_on(self, trace: Trace, tokens: Sequence[int], first: int, inputs: Any) -> Start:
        """Begin within a trace of the same blend, or at its end: the trace grows with the run."""
        if len(tokens) > trace.length:
            trace.tokens = tokens
        trace.cache.length = first
        return Start(trace.cache, self._shape.layers, inputs, trace)
