"""Generation: one side as an iterator of updates, and the sides of a request side by side."""

from __future__ import annotations

import secrets
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from studio.contracts import BASE_ALONE, Cancelled, never
from studio.jobs.live import GenerationUpdate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import BlendState, Engine, Sampling
    from studio.engine.tokenizer import Tokenizer
    from studio.jobs.live import GenerationRequest, Side


def generate(
    engine: Engine,
    tokens: Sequence[int],
    state: BlendState,
    sampling: Sampling,
    tokenizer: Tokenizer | None,
    *,
    number: int = 0,
    side: Side = "blend",
    cancelled: Cancelled = never,
) -> Iterator[GenerationUpdate]:
    """Yield an update after every token and a finished one at the end. Without a tokenizer pieces are empty.

    The model's end tokens end it and are not part of it.
    """
    decoder = tokenizer.stream() if tokenizer else None
    stop = tokenizer.end_tokens if tokenizer else frozenset[int]()
    ids: list[int] = []
    pieces: list[str] = []
    first_token_at = 0.0

    def update(*, finished: bool = False) -> GenerationUpdate:
        since_first = time.perf_counter() - first_token_at
        speed = (len(ids) - 1) / since_first if len(ids) > 1 and since_first > 0 else 0.0
        return GenerationUpdate(number, side, tuple(ids), tuple(pieces), speed, finished)

    for token in engine.generate(tokens, state, sampling, stop=stop, cancelled=cancelled):
        if not ids:
            first_token_at = time.perf_counter()
        ids.append(token)
        pieces.append(decoder.feed(token) if decoder else "")
        yield update()
    rest = decoder.finish() if decoder else ""
    if rest:
        pieces[-1] += rest
    yield update(finished=True)


class Generation:
    """The sides of one request, a token of each in turn.

    Parameters
    ----------
    engine
        With the request's base open.
    number, request, tokens
        The request, its number and its prompt as tokens.
    cancelled
        Asked by the engine between layers.
    """

    def __init__(
        self,
        engine: Engine,
        number: int,
        request: GenerationRequest,
        tokens: tuple[int, ...],
        cancelled: Cancelled,
    ) -> None:
        self.number = number
        self._engine = engine
        self._request = request
        self._tokens = tokens
        self._cancelled = cancelled
        # One seed for both sides: with the same random numbers, what differs is the blend's doing.
        seed = request.sampling.seed
        self._sampling = replace(request.sampling, seed=secrets.randbits(32) if seed is None else seed)
        self._waiting: deque[Side] = deque(request.sides)
        self._streams: dict[Side, Iterator[GenerationUpdate]] = {}
        self._last = {side: GenerationUpdate(number, side, (), (), 0.0, False) for side in request.sides}

    @property
    def done(self) -> bool:
        """Whether every side is finished."""
        return not self._waiting

    @property
    def begun(self) -> bool:
        """Whether the side that is next has its prompt behind it, so that a step takes one token's time."""
        return bool(self._waiting) and bool(self._last[self._waiting[0]].ids)

    def step(self) -> GenerationUpdate:
        """Make one token of the side whose turn it is. A step that is cancelled can be taken again."""
        side = self._waiting[0]
        if not self.begun:
            self._streams[side] = self._start(side)
        update = next(self._streams[side])
        self._last[side] = update
        self._waiting.rotate(-1)
        if update.finished:
            self._waiting.remove(side)
        return update

    def stop(self) -> list[GenerationUpdate]:
        """End the sides that are not finished and return their last updates, marked as finished."""
        ended = [replace(self._last[side], finished=True) for side in self._waiting]
        self._waiting.clear()
        self._streams.clear()
        return ended

    def _start(self, side: Side) -> Iterator[GenerationUpdate]:
        live = self._request.live
        self._engine.attach(live.adapters)
        return generate(
            self._engine,
            self._tokens,
            BASE_ALONE if side == "base" else live.state,
            self._sampling,
            live.tokenizer,
            number=self.number,
            side=side,
            cancelled=self._cancelled,
        )
