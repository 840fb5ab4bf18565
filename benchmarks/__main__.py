"""`python -m benchmarks [NAME] [--json] [--peers PYTHON]`: run a benchmark, or list them."""

import argparse
import importlib
import os
import sys
from types import ModuleType

from benchmarks.run import Run

NAMES = (
    "slider",
    "decode",
    "prefill",
    "load",
    "memory",
    "stack-size",
    "sweep",
    "combine",
    "train",
    "reuse",
    "open",
    "norms",
    "desk",
    "gpu",
    "merge",
    "keep",
    "search",
)
WITH_PEERS = NAMES[:9]
THREADS = "2"  # llama.cpp has as many


def main() -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line, the headline first"
    )
    parser.add_argument(
        "--peers",
        metavar="PYTHON",
        default=os.environ.get("LORA_STUDIO_PEERS"),
        help="the Python of an environment made from benchmarks/peers/requirements.txt",
    )
    parser.add_argument("--rounds", metavar="N", type=int, help="how often to measure; more is steadier")
    parser.add_argument(
        "--large", action="store_true", help="memory: add a synthetic model of 0.7 GB, written for the while"
    )
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, THREADS)  # before NumPy is imported
    if arguments.name is None:
        for name in NAMES:
            print(f"{name:<12}{(module_of(name).__doc__ or '').splitlines()[0]}")
        return
    if arguments.name in WITH_PEERS and not arguments.peers:
        print("ours alone: no --peers PYTHON was given", file=sys.stderr)
    run = Run(arguments.peers, arguments.json, arguments.rounds, arguments.large)
    module_of(arguments.name).main(run)


def module_of(name: str) -> ModuleType:
    """Import a benchmark."""
    return importlib.import_module(f"benchmarks.bench_{name.replace('-', '_')}")


main()
