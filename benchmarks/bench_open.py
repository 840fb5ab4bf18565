"""Open the base: metadata and tensor index, without touching tensor bytes."""

from benchmarks.timing import repeat
from studio.api import GgufFile
from studio.resources import DEMO_BASE, resolve


def main(peers: str | None) -> None:
    """Print how long opening takes."""
    path = resolve(DEMO_BASE)
    print(f"GgufFile.open({path.name})  {repeat(lambda _: GgufFile.open(path).close(), 20)}")
