"""A CUDA device beside our own CPU engine: a moved slider and decoding, in float32, float16 and quantised."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.demo import PROMPT_LENGTH, demo
from benchmarks.rounds import NewScales, interleave
from benchmarks.row import Row
from benchmarks.sides import Ours
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.residency import KINDS, NAMES
from studio.errors import EngineError
from studio.registry import load_plugins

if TYPE_CHECKING:
    from benchmarks.run import Run

ADAPTERS = 3
NEW_TOKENS = 32
ROUNDS = 9
CPU = "ours on the CPU"


def main(run: Run) -> None:
    """Report two rows for each way the weights can lie; none without a device."""
    try:
        choose_backend("cupy")
    except EngineError as error:
        print(f"no device: {error}", file=sys.stderr)
        return
    new_scales, rounds = NewScales(), run.rounds or ROUNDS
    with demo(load_plugins()) as opened:
        adapters, tokens = opened.adapters(ADAPTERS), opened.tokens()
        cpu = Ours(opened.base, adapters)
        cpu.engine.prepare()
        for kind in KINDS:
            engine = LocalEngine(choose_backend("cupy"), kind)
            device = Ours(opened.base, adapters, engine)
            sides = (device, cpu)
            draw = partial(new_scales, ADAPTERS)
            times = interleave(rounds, draw, [partial(side.prompt, tokens) for side in sides])
            speeds = interleave(rounds, draw, [partial(side.decode, tokens, NEW_TOKENS) for side in sides])
            name, conditions = NAMES[kind], {"adapters": ADAPTERS, "tokens": PROMPT_LENGTH}
            run.report(Row(f"gpu, slider, {name}", "ms", conditions, times, against=CPU))
            conditions["new tokens"] = NEW_TOKENS
            run.report(Row(f"gpu, decode, {name}", "tokens/s", conditions, speeds, against=CPU))
            engine.close()
        cpu.engine.close()
