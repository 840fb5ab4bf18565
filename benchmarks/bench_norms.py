"""Update the heatmap: the norm of a blend of three adapters in all 210 modules, after one slider moved."""

from benchmarks.demo import open_demo
from benchmarks.timing import repeat
from studio.lora.adapter import Adapter
from studio.lora.analysis import BlendNorms
from studio.registry import load_plugins


def main(peers: str | None) -> None:
    """Print the time of the products made once per stack, and of one slider move."""
    session = open_demo(load_plugins())
    adapters = {key: one for key, one in session.stack.by_key.items() if isinstance(one, Adapter)}
    modules = sorted({module for adapter in adapters.values() for module in adapter.modules})
    print(f"products, once per stack  {repeat(lambda _: BlendNorms.of(adapters, modules), 5, warm_up=1)}")
    norms = BlendNorms.of(adapters, modules)
    moves = repeat(lambda i: norms.blend_norms({key: 0.01 * i for key in adapters}), 500)
    print(f"{len(modules)} modules x {len(adapters)}        {moves}")
