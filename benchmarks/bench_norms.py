"""Update the heatmap: the norm of a blend of three adapters in all 210 modules, after one slider moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.demo import demo
from benchmarks.rounds import repeat
from benchmarks.row import Row
from studio.contracts import BlendChannel, BlendState
from studio.lora.analysis import BlendNorms
from studio.registry import load_plugins

if TYPE_CHECKING:
    from benchmarks.run import Run

ROUNDS = 500
PRODUCTS_ROUNDS = 5


def main(run: Run) -> None:
    """Report the time of one slider move, and of the products made once per stack."""
    with demo(load_plugins()) as opened:
        adapters = {adapter.name: adapter for adapter in opened.three}
        modules = sorted({module for adapter in opened.three for module in adapter.modules})
        norms = BlendNorms.of(adapters, modules)
        blends = [
            BlendState(tuple(BlendChannel(key, 1, 0.01 * i) for key in adapters))
            for i in range(run.rounds or ROUNDS)
        ]
        moves = repeat(len(blends), lambda i: norms.blend_norms(blends[i % len(blends)]))
        conditions = {"modules": len(modules), "adapters": len(adapters)}
        run.report(Row("norms", "ms", conditions, [moves]))
        products = repeat(run.rounds or PRODUCTS_ROUNDS, lambda _: BlendNorms.of(adapters, modules))
        run.report(Row("norms, once per stack", "ms", conditions, [products]))
