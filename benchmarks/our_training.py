"""Our training in a process of its own: requests and answers a line of JSON each, as the peers have them.

`open` takes a base, the sequences of every step to come and the options of a run; `step` answers with the
milliseconds that it took, the loss and the norm of the gradients.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.contracts import Example, TrainingProgress, TrainingRequest
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.formats.gguf_shards import open_gguf
from studio.jobs.training import train_adapter
from studio.learning.options import LoraOptions

if TYPE_CHECKING:
    from studio.contracts import Work


def begin(base: str, sequences: list[list[int]], options: dict[str, Any]) -> Work:
    """Begin a run that takes the sequences in their order."""
    opened = open_gguf(Path(base))
    engine = LocalEngine(choose_backend("numpy"), reuse=False)
    engine.open(opened)
    examples = [Example.of(tokens) for tokens in sequences]
    return train_adapter(TrainingRequest(opened, engine, examples), LoraOptions(**options))


def step(run: Work) -> dict[str, float]:
    """Take one step."""
    started = time.perf_counter()
    progress = next(run)
    took = 1e3 * (time.perf_counter() - started)
    assert isinstance(progress, TrainingProgress)
    return {"milliseconds": took, "loss": progress.loss, "norm": progress.gradient_norm}


def main() -> None:
    """Answer every request of the standard input."""
    run: Work | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request.pop("do") == "open":
            run = begin(**request)
            answer: dict[str, float] = {}
        else:
            assert run is not None
            answer = step(run)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
