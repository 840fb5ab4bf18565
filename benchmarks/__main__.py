"""`python -m benchmarks [NAME] [--peers PYTHON]`: run a benchmark, or list them."""

import argparse
import importlib
import os

NAMES = ("open", "norms", "evaluate", "desk")


def main() -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument(
        "--peers",
        metavar="PYTHON",
        default=os.environ.get("LORA_STUDIO_PEERS"),
        help="the Python of an environment made from benchmarks/peers/requirements.txt",
    )
    arguments = parser.parse_args()
    if arguments.name is None:
        for name in NAMES:
            doc = importlib.import_module(f"benchmarks.bench_{name}").__doc__ or ""
            print(f"{name:<10}{doc.splitlines()[0]}")
        return
    importlib.import_module(f"benchmarks.bench_{arguments.name}").main(arguments.peers)


main()
