"""The engine of this machine: an open base, the adapters attached to it, and what is asked of them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from studio.contracts import (
    NO_DROPOUT,
    BaseModel,
    BlendState,
    Cancelled,
    DeltaAdapter,
    Dropout,
    Evaluation,
    Example,
    FloatArray,
    GradientMemory,
    Gradients,
    Loss,
    Positions,
    Sampling,
    never,
)
from studio.engine.adapter_bank import AdapterBank, signature_of
from studio.engine.batching import batches
from studio.engine.checked_tokens import check_examples, checked_tokens
from studio.engine.decoder import Decoder
from studio.engine.gradients.learner import Learner
from studio.engine.kv_cache import KvCache
from studio.engine.open_base import OpenBase
from studio.engine.residency import NAMES
from studio.engine.sampling import check_sampling, choose_token
from studio.engine.trace import Start
from studio.errors import CancelledError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from studio.engine.adapter_bank import BoundBlends
    from studio.engine.backend import Array, Backend, HostArray
    from studio.engine.memory_pool import MemoryPool
    from studio.engine.residency import Residency
    from studio.engine.weights import Weights

Result = TypeVar("Result")

GENERATION_ROOM = 128
"""For how many new tokens a stream makes room at first."""


class LocalEngine:
    """Satisfies `studio.contracts.Engine` with a backend of this machine.

    Parameters
    ----------
    backend
        Who computes.
    residency
        How the weights lie in memory.
    reuse
        Whether an evaluation begins where it first differs from an earlier one, which is kept for that.
    """

    def __init__(self, backend: Backend, residency: Residency = "auto", *, reuse: bool = True) -> None:
        self._backend = backend
        self._residency = residency
        self._reuse = reuse
        self._base: OpenBase | None = None
        self._bank: AdapterBank | None = None

    @property
    def description(self) -> str:
        """Which backend runs and why, and what the open base's weights take in memory, in all their forms.

        Any thread may ask, whatever another one does with the engine.
        """
        base = self._base
        if base is None:
            return self._backend.reason
        weights = base.weights
        size = weights.nbytes + base.kernels.loader.nbytes
        return f"{self._backend.reason}; weights {NAMES[weights.kind]}, {size / 1e6:,.0f} MB"

    @property
    def context_length(self) -> int:
        """The longest sequence the open base takes, in tokens."""
        return self._opened().model.context_length

    def open(self, base: BaseModel) -> None:
        """Make this the base, with no adapters attached; where that fails, the old one stays as it was."""
        opened = OpenBase.load(base, self._backend, self._residency, reuse=self._reuse)
        self.close()
        self._base = opened

    def prepare(self) -> bool:
        """Load the compiled kernels now instead of beside the first stream; say whether they can be used."""
        return self._opened().kernels.loader.wait()

    def attach(self, adapters: Mapping[str, DeltaAdapter]) -> None:
        """Make exactly these adapters available. Raises `MismatchError` for one that does not fit."""
        base = self._opened()
        if self._bank is None or self._bank.signature != signature_of(adapters):
            self._bank = self._run(lambda: AdapterBank(adapters, base.weights, self._backend))
            base.heard.attach(self._bank.adapters, self._bank.signature)
            base.traces.keep_only(base.heard.numbers)

    def evaluate(
        self,
        tokens: Sequence[int],
        state: BlendState,
        *,
        positions: Positions = "last",
        cancelled: Cancelled = never,
    ) -> Evaluation:
        """Run the tokens through the blend. Raises `CancelledError` at the next layer once cancelled."""
        if positions == "last":
            return self.evaluate_batch([tokens], [state], cancelled=cancelled)[0]
        started = time.perf_counter()
        ids = self._checked(tokens)

        def work() -> tuple[FloatArray, FloatArray | None]:
            cache = KvCache(self._backend.xp, self._opened().model.cache_shape, 1, len(ids))
            blends = self._current_bank().bind([state])
            decoder = self._decoder(blends, Start(cache), len(ids), cancelled)
            return decoder.scores(ids) if positions == "scores" else (decoder.all_logits(ids), None)

        logits, scores = self._run(work)
        return Evaluation(tuple(ids), state, logits, scores, _milliseconds_since(started))

    def evaluate_many(
        self, tokens: Sequence[int], states: Sequence[BlendState], *, cancelled: Cancelled = never
    ) -> list[Evaluation]:
        """Evaluate the last position of the same tokens under several blends, in one pass for all of them."""
        return self.evaluate_batch([tokens] * len(states), states, cancelled=cancelled)

    def evaluate_batch(
        self,
        sequences: Sequence[Sequence[int]],
        states: Sequence[BlendState],
        *,
        cancelled: Cancelled = never,
    ) -> list[Evaluation]:
        """Evaluate the last position of several sequences, each under its blend: alike lengths in one pass.

        Each result's time is that of all. A blend's logits may differ in their last digits from those it has
        alone, since the products are of another size.
        """
        return self._evaluate(sequences, states, None, cancelled)

    def evaluate_pooled(
        self,
        sequences: Sequence[Sequence[int]],
        states: Sequence[BlendState],
        pool: MemoryPool,
        *,
        cancelled: Cancelled = never,
    ) -> list[Evaluation]:
        """Evaluate as `evaluate_batch` does, but from the first token on and in a pool's memory."""
        return self._evaluate(sequences, states, pool, cancelled)

    def generate(
        self,
        tokens: Sequence[int],
        state: BlendState,
        sampling: Sampling,
        *,
        stop: frozenset[int] = frozenset(),
        cancelled: Cancelled = never,
    ) -> Iterator[int]:
        """Yield new tokens one by one, until one in `stop`, `max_tokens`, or the context is full.

        Other calls may come between two tokens; the blend stays as it was at the first. Opening another base
        ends the stream with `CancelledError`.
        """
        check_sampling(sampling)
        return self._stream(self._checked(tokens), state, sampling, stop, cancelled)

    def losses(
        self, examples: Sequence[Example], states: Sequence[BlendState], *, cancelled: Cancelled = never
    ) -> list[Loss]:
        """Return the loss of all examples under each of several blends."""
        check_examples(examples, self._opened().model)
        return self._run(lambda: self._learner().losses(examples, states, self._or_closed(cancelled)))

    def gradient_memory(self, examples: Sequence[Example]) -> GradientMemory:
        """Estimate what `gradients` takes for such examples, without computing any."""
        check_examples(examples, self._opened().model)
        return self._run(lambda: self._learner().memory(examples))

    def gradients(
        self,
        examples: Sequence[Example],
        state: BlendState,
        *,
        train: str | None = None,
        dropout: Dropout = NO_DROPOUT,
        cancelled: Cancelled = never,
    ) -> Gradients:
        """Return the loss of all examples under a blend, with its gradients."""
        check_examples(examples, self._opened().model)
        return self._run(
            lambda: self._learner().gradients(
                examples, state, train, dropout, cancelled=self._or_closed(cancelled)
            )
        )

    def sibling(self) -> LocalEngine:
        """Return another engine on the same open base, for another thread: the weights are there once.

        Both may compute at the same time. Once this one is closed, or opens another base, whatever the
        sibling does ends with `CancelledError`, at the next layer.
        """
        other = LocalEngine(self._backend.sibling(), self._residency, reuse=False)
        other._base = self._opened().shared(other._backend)
        return other

    @property
    def weights(self) -> Weights:
        """The open base's weights."""
        return self._opened().weights

    @contextmanager
    def watching(self, watch: Callable[[Weights], Weights]) -> Iterator[None]:
        """Use other weights for a while: the same ones, which show what goes through them."""
        base = self._opened()
        self._base = replace(base, weights=watch(base.weights))
        try:
            yield
        finally:
            self._base = base

    def to_host(self, array: Array) -> HostArray:
        """Bring an array of the device to the host."""
        return self._backend.run(lambda: self._backend.to_host(array))

    def close(self) -> None:
        """Free the weights and the device; a sibling leaves them to the engine that it came from."""
        if self._base is not None:
            self._base.close()
        self._base = self._bank = None
        self._backend.free_memory()

    def _evaluate(
        self,
        sequences: Sequence[Sequence[int]],
        states: Sequence[BlendState],
        pool: MemoryPool | None,
        cancelled: Cancelled,
    ) -> list[Evaluation]:
        started = time.perf_counter()
        pairs = list(zip(map(self._checked, sequences), states, strict=True))
        logits: dict[int, FloatArray] = {}
        for batch in batches([len(row) for row, _ in pairs], self._opened().model.is_long):
            rows, its_states = [pairs[number][0] for number in batch], [states[number] for number in batch]
            _, found = self._run(partial(self._last_logits, rows, its_states, cancelled, pool=pool))
            logits |= zip(batch, found, strict=True)
        took = _milliseconds_since(started)
        return [
            Evaluation(tuple(row), state, logits[number], None, took)
            for number, (row, state) in enumerate(pairs)
        ]

    def _stream(
        self,
        tokens: list[int],
        state: BlendState,
        sampling: Sampling,
        stop: frozenset[int],
        cancelled: Cancelled,
    ) -> Iterator[int]:
        base = self._opened()
        random = np.random.default_rng(sampling.seed)
        count = min(sampling.max_tokens, base.model.context_length - len(tokens))
        horizon = len(tokens) + count
        decoder: Decoder | None = None
        for index in range(count):
            if self._base is not base:
                raise CancelledError
            if index == 1:
                base.kernels.loader.begin()  # beside the stream: its first token is not kept waiting
            if decoder is None:
                decoder, (logits,) = self._run(
                    partial(self._last_logits, [tokens], [state], cancelled, horizon)
                )
                self._run(partial(decoder.leave_trace, GENERATION_ROOM))
            else:
                logits = self._run(partial(decoder.next_logits, tokens[-1]))
            token = choose_token(logits, sampling, random)
            if token in stop:
                return
            yield token
            tokens = [token]

    def _last_logits(
        self,
        rows: Sequence[list[int]],
        states: Sequence[BlendState],
        cancelled: Cancelled,
        horizon: int | None = None,
        pool: MemoryPool | None = None,
    ) -> tuple[Decoder, FloatArray]:
        """Run sequences from where they are not known yet: a decoder that has fed them, and ``[N, V]``.

        None as the horizon is the length of the longest. In a pool nothing is known, and nothing is kept.
        """
        base = self._opened()
        horizon = max(map(len, rows)) if horizon is None else horizon
        blends = self._current_bank().bind(states)
        scales = [base.heard.scales_of(state) for state in states]
        if pool is None:
            start = base.traces.start(rows, scales, base.model.is_long(horizon))
        else:
            start = Start(pool.cache(self._backend.xp, base.model.cache_shape, len(rows), horizon))
        first = start.cache.length
        decoder = self._decoder(blends, start, horizon, cancelled)
        logits = decoder.last_logits([row[first:] for row in rows])
        if start.trace is not None:
            base.traces.keep(start.trace)
        return decoder, logits

    def _decoder(
        self, blends: BoundBlends | None, start: Start, horizon: int, cancelled: Cancelled
    ) -> Decoder:
        base = self._opened()
        return Decoder(
            self._backend,
            base.model,
            base.weights,
            blends,
            start,
            horizon=horizon,
            kernels=base.kernels,
            cancelled=self._or_closed(cancelled),
        )

    def _run(self, work: Callable[[], Result]) -> Result:
        """Do the work on the backend; where memory runs out, what is only kept to save time makes room."""
        try:
            return self._backend.run(work)
        except EngineError as error:
            traces = self._opened().traces
            if not (isinstance(error.__cause__, MemoryError) and traces.nbytes):
                raise
        traces.clear()
        return self._backend.run(work)

    def _learner(self) -> Learner:
        base = self._opened()
        return Learner(self._backend, base.model, base.weights, self._current_bank())

    def _current_bank(self) -> AdapterBank:
        """Return the bank, packed anew where an adapter has changed since."""
        self.attach(self._bank.adapters if self._bank is not None else {})
        assert self._bank is not None
        return self._bank

    def _opened(self) -> OpenBase:
        if self._base is None:
            raise EngineError("no base is open", remedy="Open a base model first")
        if self._base.closed.is_set():  # by the engine that shares it
            self._base = self._bank = None
            raise CancelledError
        return self._base

    def _or_closed(self, cancelled: Cancelled) -> Cancelled:
        """Say that work is cancelled also once the base is closed."""
        closed = self._opened().closed
        return lambda: cancelled() or closed.is_set()

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        return checked_tokens(tokens, self._opened().model)


def _milliseconds_since(started: float) -> float:
    return 1000 * (time.perf_counter() - started)
