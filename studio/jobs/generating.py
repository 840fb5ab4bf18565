"""One side of a generation as a generator: tokens from the engine, text from the tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.contracts import Cancelled, never

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import BlendState, Engine, Sampling
    from studio.engine.tokenizer import Tokenizer
    from studio.jobs.live import GenerationUpdate, Side


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
    """Yield an update after every token and a finished one at the end. Without a tokenizer the pieces are empty.

    The model's end tokens end it and are not part of it.
    """
    raise NotImplementedError
