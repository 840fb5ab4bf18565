"""A token sequence under N blends: fed in passes of bearable size, read out as logits and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import Cancelled, FloatArray, never
from studio.engine.forward import BlendPass
from studio.engine.kv_cache import KvCache
from studio.engine.operators import log_normaliser
from studio.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.engine.adapter_bank import BoundBlends
    from studio.engine.backend import Array, Backend
    from studio.engine.kernel_decoder import KernelDecoder
    from studio.engine.model import Model
    from studio.engine.weights import Weights

PASS_COLUMNS = 256
"""How many columns (blends times positions) one pass takes: more gain no speed and cost memory."""

HEAD_COLUMNS = 64
"""How many columns go through the head at once: its output is ``[vocabulary, columns]``."""


class Decoder:
    """Feeds a sequence to a model from its first token on, and remembers it in a cache.

    Whatever overflows float32 on the way reaches the logits as infinity or NaN, so only they are looked at;
    every reading raises `EngineError` for it.

    Parameters
    ----------
    blends
        The bound blends; None where all of them are the base alone.
    count
        N, how many blends there are.
    capacity
        How many positions to make room for at once.
    horizon
        How long the sequence may become; None is no longer than `capacity`.
    kernels
        Decode single tokens, where they can; None leaves all to the backend.
    """

    def __init__(
        self,
        backend: Backend,
        model: Model,
        weights: Weights,
        blends: BoundBlends | None,
        *,
        count: int,
        capacity: int,
        horizon: int | None = None,
        kernels: KernelDecoder | None = None,
        cancelled: Cancelled = never,
    ) -> None:
        self._backend = backend
        self._kernels = kernels
        self._model = model
        self._weights = weights
        self._blends = blends
        self._horizon = capacity if horizon is None else horizon
        self._cancelled = cancelled
        self._cache = KvCache(backend.xp, model.cache_shape, count, capacity)

    def last_logits(self, tokens: Sequence[int]) -> FloatArray:
        """Feed tokens, and return the logits after the last of them, ``[N, V]``."""
        if len(tokens) == 1 and self._kernels is not None:
            run = self._pass(tokens)
            run.enter_layer()
            logits = self._kernels.logits(run, self._blends)
            if logits is not None:
                return self._finite(logits[None])
        *_, (run, hidden) = self._feed(tokens)
        return self._last(run, hidden)

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
        for run, hidden in self._feed(tokens):
            for first in range(0, run.length, HEAD_COLUMNS):
                run.enter_layer()
                yield run.start + first, self._model.logits(run, hidden[:, first : first + HEAD_COLUMNS])

    def _last(self, run: BlendPass, hidden: Array) -> FloatArray:
        last = hidden.reshape(hidden.shape[0], run.blends, run.length)[:, :, -1]  # [width, N]
        run.enter_layer()
        logits = self._model.logits(run, self._backend.xp.ascontiguousarray(last))
        return np.ascontiguousarray(self._finite(self._backend.to_host(logits)).T)

    def _finite(self, values: FloatArray) -> FloatArray:
        """Return the values, or raise `EngineError` naming the layer where they first were not finite."""
        if np.isfinite(values).all():
            return values
        layer = self._cache.first_overflow()
        place = "the output" if layer is None else f"blk.{layer}"
        if self._blends is None:
            raise EngineError(
                f"the base overflows float32 at {place}", remedy="Its file may be damaged; copy it again"
            )
        raise EngineError(f"the blend overflows float32 at {place}", remedy="Lower the scales")

    def _feed(self, tokens: Sequence[int]) -> Iterator[tuple[BlendPass, Array]]:
        """Run tokens through the layers pass by pass; yield each pass and its hidden ``[width, N * T]``."""
        length = max(1, PASS_COLUMNS // self._cache.blends)
        for first in range(0, len(tokens), length):
            part = tokens[first : first + length]
            run = self._pass(part)
            hidden = self._model.hidden(run)
            self._cache.advance(run.length)
            yield run, hidden

    def _pass(self, tokens: Sequence[int]) -> BlendPass:
        return BlendPass(
            self._backend,
            self._weights,
            self._blends,
            self._cache,
            tokens,
            self._horizon,
            self._cancelled,
        )
