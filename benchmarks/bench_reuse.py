"""What is kept spares: a token more, a gain late in the model, a stream's first token; over all run anew."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.demo import PROMPT_LENGTH, demo
from benchmarks.rounds import NewScales, interleave, milliseconds
from benchmarks.row import Row
from benchmarks.sides import Ours
from studio.contracts import BlendState, Gains, Sampling
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.registry import load_plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.run import Run

ADAPTERS = 3
LATE = 20
"""The layer, of SmolLM2's 30, from which on the gain acts."""

ROUNDS = 15


def main(run: Run) -> None:
    """Report a row for each, with reuse over without it; every round has a blend that is new to both."""
    with demo(load_plugins()) as opened:
        adapters, tokens = opened.adapters(ADAPTERS), opened.tokens(PROMPT_LENGTH + 1)
        engines = [LocalEngine(choose_backend("numpy"), reuse=reuse) for reuse in (True, False)]
        sides = [Ours(opened.base, adapters, engine) for engine in engines]
        whats: dict[str, Callable[[Ours, Sequence[int], Sequence[float]], float]] = {
            "one token more": one_token_more,
            "late gain": late_gain,
            "first token": first_token,
        }
        new_scales = NewScales()
        for what, work in whats.items():
            works = [partial(work, side, tokens) for side in sides]
            times = interleave(run.rounds or ROUNDS, partial(new_scales, ADAPTERS), works)
            conditions = {"adapters": ADAPTERS, "tokens": PROMPT_LENGTH}
            run.report(Row(f"reuse, {what}", "ms", conditions, times, against="ours without"))
        for engine in engines:
            engine.close()


def one_token_more(side: Ours, tokens: Sequence[int], scales: Sequence[float]) -> float:
    """Evaluate a prompt, then measure it with one token more."""
    side.prompt(tokens[:-1], scales)
    return side.prompt(tokens, scales)


def late_gain(side: Ours, tokens: Sequence[int], scales: Sequence[float]) -> float:
    """Evaluate a prompt, then measure it with another gain in the late layers."""
    blend = side.blend(scales)
    side.engine.evaluate(tokens[:-1], blend)
    late = Gains.of({f"blk.{layer}.attn_q.weight": 0.5 for layer in range(LATE, 30)})
    changed = BlendState(tuple(replace(channel, gains=late) for channel in blend.channels))
    return milliseconds(lambda: side.engine.evaluate(tokens[:-1], changed))


def first_token(side: Ours, tokens: Sequence[int], scales: Sequence[float]) -> float:
    """Evaluate a prompt, then measure the first token generated after it."""
    blend = side.blend(scales)
    side.engine.evaluate(tokens[:-1], blend)
    stream = side.engine.generate(tokens[:-1], blend, Sampling(max_tokens=1))
    return milliseconds(lambda: next(stream))
