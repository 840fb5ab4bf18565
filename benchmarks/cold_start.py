"""Our side of `load`: `python -m benchmarks.cold_start REQUEST` opens all, evaluates once, and says so.

The request is JSON: `base`, `adapters` (paths), `text` and `scales`, and `weights` where not auto. In the
place of `text` may stand `tokens`, which need no tokenizer. It waits for a line of input before it ends, so
that its memory can be looked at.
"""

from __future__ import annotations

import json
import sys

from studio.cli.output import finish
from studio.contracts import BlendChannel, BlendState
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.jobs.opening import open_base
from studio.registry import load_plugins
from studio.session.opened import AdapterSource


def main() -> None:
    """Do it as the studio does, file by file through the plugins."""
    request = json.loads(sys.argv[1])
    sources = [AdapterSource(path) for path in request["adapters"]]
    opened = finish(open_base(request["base"], load_plugins(), sources))
    adapters = {str(number): one.adapter for number, one in enumerate(opened.adapters)}
    engine = LocalEngine(choose_backend("numpy"), request.get("weights", "auto"))
    engine.open(opened.base)
    engine.attach(adapters)
    blend = BlendState(
        tuple(
            BlendChannel(key, adapter.version, scale)
            for (key, adapter), scale in zip(adapters.items(), request["scales"], strict=True)
        )
    )
    tokens = request.get("tokens") or opened.tokenizer.encode(request["text"])
    evaluation = engine.evaluate(tokens, blend)
    print(f"{len(evaluation.tokens)} tokens", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
