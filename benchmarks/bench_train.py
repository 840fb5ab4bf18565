"""Train SmolLM2, rank 8, all linear weights, 256 tokens a step: tokens a second, and the peak of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.demo import demo
from benchmarks.rounds import interleave
from benchmarks.row import Row
from benchmarks.training_sides import open_training
from studio.engine.backend import choose_backend
from studio.engine.compiled_numpy import fastest_module
from studio.learning.options import LoraOptions
from studio.registry import load_plugins

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.run import Run
    from benchmarks.training_sides import TrainingSide

LENGTH = 256
ROUNDS = 6
WARM_UP = 1


def main(run: Run) -> None:
    """Report both, interleaved with torch and PEFT where they are."""
    rounds = run.rounds or ROUNDS
    steps = rounds + WARM_UP
    options = LoraOptions(steps=steps, schedule="constant", warm_up=0.0, shuffle=False)
    plugins = load_plugins()
    fastest_module(choose_backend("numpy"))  # compiled here once, so that no side's memory has the compiler's
    with demo(plugins) as opened:
        tokens = opened.tokens(steps * LENGTH)
        sequences = [tokens[first : first + LENGTH] for first in range(0, len(tokens), LENGTH)]
        with open_training(run.peers, opened.base, plugins, sequences, options) as sides:
            speeds = interleave(rounds, lambda: None, [speed_of(side) for side in sides], WARM_UP)
            peaks = [[side.peak] for side in sides]
    conditions = {"tokens": LENGTH, "ranks": options.rank}
    run.report(Row("train", "tokens/s", conditions, speeds, against="PEFT"))
    run.report(Row("train, peak", "MB", conditions, peaks, against="PEFT"))


def speed_of(side: TrainingSide) -> Callable[[None], float]:
    """Return what takes a step and tells its tokens a second."""
    return lambda _: 1e3 * LENGTH / side.step().milliseconds
