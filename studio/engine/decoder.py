"""Token sequences under a blend each: fed in passes of bearable size, read out as logits and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import Cancelled, FloatArray, never
from studio.engine.forward import BlendPass
from studio.engine.operators import log_normaliser
from studio.engine.overflow import overflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.engine.adapter_bank import BoundBlends
    from studio.engine.backend import Array, Backend, HostArray
    from studio.engine.kernel_decoder import KernelDecoder
    from studio.engine.model import Model
    from studio.engine.trace import Start
    from studio.engine.weights import Weights

PASS_COLUMNS = 256
"""How many columns (blends times positions) one pass takes: more gain no speed and cost memory."""

HEAD_COLUMNS = 64
"""How many columns go through the head at once: its output is ``[vocabulary, columns]``."""


class Decoder:
    """Feeds N sequences to a model, and remembers them in a cache.

    Whatever overflows float32 on the way reaches the logits as infinity or NaN, so only they are looked at;
    every reading raises `EngineError` for it.

    Parameters
    ----------
    blends
        The N bound blends; None where all of them are the base alone.
    start
        Where to begin, and what takes note of it.
    horizon
        How long the sequences may become.
    kernels
        Decode single tokens, where they can; None leaves all to the backend.
    """

    def __init__(
        self,
        backend: Backend,
        model: Model,
        weights: Weights,
        blends: BoundBlends | None,
        start: Start,
        *,
        horizon: int,
        kernels: KernelDecoder | None = None,
        cancelled: Cancelled = never,
    ) -> None:
        self._backend = backend
        self._kernels = kernels
        self._model = model
        self._weights = weights
        self._blends = blends
        self._horizon = horizon
        self._cancelled = cancelled
        self._cache = start.cache
        self._trace = start.trace
        self._first_layer = start.layer
        self._known = start.inputs  # what enters the first layer at the next positions

    def last_logits(self, rows: Sequence[Sequence[int]]) -> FloatArray:
        """Feed each sequence its next tokens, and return the logits after the last of each, ``[N, V]``.

        Shorter rows are padded: no position looks at later ones. They cannot be fed again.
        """
        longest = max(map(len, rows))
        padded = np.array([[*row, *[row[-1]] * (longest - len(row))] for row in rows], dtype=np.int64)
        last: list[Array] = [None] * len(rows)
        done = 0
        for run, hidden in self._feed(padded):
            by_row = hidden.reshape(hidden.shape[0], run.blends, run.length)
            for number, row in enumerate(rows):
                if done < len(row) <= done + run.length:
                    last[number] = by_row[:, number, len(row) - 1 - done]  # [width]
            done += run.length
        run.poll()
        logits = self._model.logits(run, self._backend.xp.stack(last, axis=1))
        return np.ascontiguousarray(self._finite(self._backend.to_host(logits)).T)

    def next_logits(self, token: int) -> FloatArray:
        """Feed one sequence its next token, and return the logits after it, ``[V]``."""
        if self._kernels is not None and self._trace is None:
            run = self._pass(np.array([[token]]))
            run.poll()
            logits = self._kernels.logits(run, self._blends)
            if logits is not None:
                return self._finite(logits)
        before = self._cache.length
        try:
            numpy_logits: FloatArray = self.last_logits([[token]])[0]
        except Exception:
            self._cache.length = before  # memory may run out in the head, and the token is fed again
            raise
        return numpy_logits

    def leave_trace(self, room: int) -> None:
        """Go on with a copy of the cache that has room for more positions: the trace is for others."""
        if self._trace is not None:
            length = self._cache.length
            self._cache = self._cache.fork(1, self._model.cache_shape.layers, length, length + room)
            self._cache.length = length
            self._trace = None

    def all_logits(self, tokens: Sequence[int]) -> FloatArray:
        """Feed tokens to one blend, and return the logits after each, ``[T, V]``."""
        logits = np.empty((len(tokens), self._model.vocabulary_size), dtype=np.float32)
        for first, part in self._logits(tokens):
            logits[first : first + part.shape[1]] = self._finite(self._backend.to_host(part)).T
        return logits

    def scores(self, tokens: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """Feed tokens to one blend: the last logits ``[V]``, and each next token's score ``[T - 1]``."""
        xp = self._backend.xp
        scores = np.empty(len(tokens), dtype=np.float32)
        following = [*tokens[1:], 0]  # nothing follows the last: its score is computed and left out
        for first, part in self._logits(tokens):
            count = part.shape[1]
            targets = self._backend.to_device(np.asarray(following[first : first + count], dtype=np.int64))
            chosen = part[targets, xp.arange(count)]  # [C]
            scores[first : first + count] = self._finite(
                self._backend.to_host(chosen - log_normaliser(xp, part))
            )
        return self._backend.to_host(part[:, -1]).copy(), scores[:-1]

    def _logits(self, tokens: Sequence[int]) -> Iterator[tuple[int, Array]]:
        """Feed tokens; yield the first position and the logits ``[V, C]`` of a few positions at a time."""
        for run, hidden in self._feed(np.array([tokens], dtype=np.int64)):
            for first in range(0, run.length, HEAD_COLUMNS):
                run.poll()
                yield run.start + first, self._model.logits(run, hidden[:, first : first + HEAD_COLUMNS])

    def _finite(self, values: FloatArray) -> FloatArray:
        """Return the values, or raise `EngineError` naming the layer where they first were not finite."""
        if np.isfinite(values).all():
            return values
        raise overflow(self._cache, is_base=self._blends is None)

    def _feed(self, tokens: HostArray) -> Iterator[tuple[BlendPass, Array]]:
        """Run tokens ``[N, T]`` pass by pass; yield each pass and its hidden states ``[width, N * T]``."""
        rows, total = tokens.shape
        most = max(1, PASS_COLUMNS // rows)
        done = 0
        while done < total:
            count = min(most, total - done)
            resumed = None
            if self._known is not None:
                count = min(count, self._known.shape[1])
                resumed = self._backend.xp.tile(self._known[:, :count], (1, rows))
                self._known = self._known[:, count:] if count < self._known.shape[1] else None
            run = self._pass(tokens[:, done : done + count], resumed)
            hidden = self._model.hidden(run)
            self._cache.advance(count)
            if self._trace is not None:
                self._trace.add(run.entered)
            yield run, hidden
            done += count

    def _pass(self, tokens: HostArray, resumed: Array | None = None) -> BlendPass:
        return BlendPass(
            self._backend,
            self._weights,
            self._blends,
            self._cache,
            tokens,
            self._horizon,
            self._cancelled,
            first_layer=0 if resumed is None else self._first_layer,
            resumed=resumed,
            traced=self._trace is not None,
        )
