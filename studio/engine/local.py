"""The engine of this machine: an open base, the adapters attached to it, and what is asked of them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import (
    BaseModel,
    BlendState,
    Cancelled,
    DeltaAdapter,
    Evaluation,
    FloatArray,
    Positions,
    Sampling,
    never,
)
from studio.engine.adapter_bank import AdapterBank, signature_of
from studio.engine.decoder import Decoder
from studio.engine.kernel_decoder import KernelDecoder
from studio.engine.models import model_for
from studio.engine.residency import NAMES
from studio.engine.sampling import check_sampling, choose_token
from studio.engine.weights import Weights
from studio.errors import CancelledError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from studio.engine.backend import Array, Backend, HostArray
    from studio.engine.model import Model
    from studio.engine.residency import Residency


GENERATION_ROOM = 128
"""For how many new tokens a stream makes room at first."""


@dataclass(frozen=True)
class OpenBase:
    """A base's model, its weights on the device, and the kernels that decode with them."""

    model: Model
    weights: Weights
    kernels: KernelDecoder


class LocalEngine:
    """Satisfies `studio.contracts.Engine` with a backend of this machine.

    Parameters
    ----------
    backend
        Who computes.
    residency
        How the weights lie in memory.
    """

    def __init__(self, backend: Backend, residency: Residency = "auto") -> None:
        self._backend = backend
        self._residency = residency
        self._base: OpenBase | None = None
        self._bank: AdapterBank | None = None

    @property
    def description(self) -> str:
        """Which backend runs and why, and what the open base's weights take in memory, in all their forms."""
        if self._base is None:
            return self._backend.reason
        weights = self._base.weights
        size = weights.nbytes + self._base.kernels.nbytes
        return f"{self._backend.reason}; weights {NAMES[weights.kind]}, {size / 1e6:,.0f} MB"

    @property
    def context_length(self) -> int:
        """The longest sequence the open base takes, in tokens."""
        return self._opened().model.context_length

    def open(self, base: BaseModel) -> None:
        """Make this the base, with no adapters attached; where that fails, the old one stays as it was."""
        model = model_for(base)
        weights = Weights.load(base, model, self._backend, self._residency)
        self.close()
        self._base = OpenBase(model, weights, KernelDecoder(base, model, weights, self._backend))

    def prepare(self) -> bool:
        """Load the compiled kernels now instead of beside the first stream; say whether they can be used."""
        return self._opened().kernels.wait()

    def attach(self, adapters: Mapping[str, DeltaAdapter]) -> None:
        """Make exactly these adapters available. Raises `MismatchError` for one that does not fit."""
        weights = self._opened().weights
        if self._bank is None or self._bank.signature != signature_of(adapters):
            self._bank = self._backend.run(lambda: AdapterBank(adapters, weights, self._backend))

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
            return self.evaluate_many(tokens, [state], cancelled=cancelled)[0]
        started = time.perf_counter()
        ids = self._checked(tokens)

        def work() -> tuple[FloatArray, FloatArray | None]:
            decoder = self._decoder([state], len(ids), cancelled)
            return decoder.scores(ids) if positions == "scores" else (decoder.all_logits(ids), None)

        logits, scores = self._backend.run(work)
        return Evaluation(tuple(ids), state, logits, scores, _milliseconds_since(started))

    def evaluate_many(
        self, tokens: Sequence[int], states: Sequence[BlendState], *, cancelled: Cancelled = never
    ) -> list[Evaluation]:
        """Evaluate the last position of the same tokens under several blends, in one pass for all of them.

        Each result's time is that of the whole pass. A blend's logits may differ in their last digits from
        those it has alone, since the products are of another size.
        """
        started = time.perf_counter()
        ids = self._checked(tokens)
        if not states:
            return []
        logits = self._backend.run(lambda: self._decoder(states, len(ids), cancelled).last_logits(ids))
        took = _milliseconds_since(started)
        return [
            Evaluation(tuple(ids), state, row, None, took) for state, row in zip(states, logits, strict=True)
        ]

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
        """Free the weights and the device."""
        if self._base is not None:
            self._base.kernels.close()
        self._base = self._bank = None
        self._backend.free_memory()

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
                base.kernels.begin()  # beside the stream: its first token is not kept waiting
            decoder, logits = self._backend.run(
                partial(self._continue, decoder, tokens, state, horizon, cancelled)
            )
            token = choose_token(logits[0], sampling, random)
            if token in stop:
                return
            yield token
            tokens = [token]

    def _continue(
        self,
        decoder: Decoder | None,
        tokens: list[int],
        state: BlendState,
        horizon: int,
        cancelled: Cancelled,
    ) -> tuple[Decoder, FloatArray]:
        """Feed tokens to the decoder of a stream; the first ones make it."""
        if decoder is None:
            decoder = self._decoder([state], len(tokens) + GENERATION_ROOM, cancelled, horizon)
        return decoder, decoder.last_logits(tokens)

    def _decoder(
        self,
        states: Sequence[BlendState],
        capacity: int,
        cancelled: Cancelled,
        horizon: int | None = None,
    ) -> Decoder:
        base = self._opened()
        blends = self._current_bank().bind(states)
        return Decoder(
            self._backend,
            base.model,
            base.weights,
            blends,
            count=len(states),
            capacity=capacity,
            horizon=horizon,
            kernels=base.kernels,
            cancelled=cancelled,
        )

    def _current_bank(self) -> AdapterBank:
        """Return the bank, packed anew where an adapter has changed since."""
        self.attach(self._bank.adapters if self._bank is not None else {})
        assert self._bank is not None
        return self._bank

    def _opened(self) -> OpenBase:
        if self._base is None:
            raise EngineError("no base is open", remedy="Open a base model first")
        return self._base

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens as plain numbers; raise `EngineError` for those that the base cannot take."""
        model = self._opened().model
        ids = [int(token) for token in tokens]
        if not ids:
            raise EngineError("there are no tokens to evaluate", remedy="Give a prompt of at least one token")
        if len(ids) > model.context_length:
            raise EngineError(
                f"{len(ids)} tokens are more than the base's context of {model.context_length}",
                remedy="Shorten the prompt, or evaluate it in windows",
            )
        for position, token in enumerate(ids):
            if not 0 <= token < model.vocabulary_size:
                raise EngineError(
                    f"token {token} at position {position} is none of the {model.vocabulary_size} tokens",
                    remedy="Use the tokens of this base's own tokenizer",
                )
        return ids


def _milliseconds_since(started: float) -> float:
    return 1000 * (time.perf_counter() - started)
