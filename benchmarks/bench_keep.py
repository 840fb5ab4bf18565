"""How much of a blend a merge into the quantised base keeps, by rounding and size of the file."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.demo import demo
from studio.cli.output import finish
from studio.contracts import BASE_ALONE, BlendChannel, BlendState, ExportRequest
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.formats.gguf_file import GgufFile
from studio.jobs.merge_options import MergeOptions
from studio.jobs.merging import merge
from studio.registry import load_plugins
from studio.session.next_token import divergence, log_softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.run import Run
    from studio.contracts import BaseModel, FloatArray

SCALES = {"smollm2-fortune": 0.8, "smollm2-legal": 0.5}

PROMPTS = (
    "The capital of France is",
    'def fibonacci(n):\n    """Return the n-th Fibonacci number."""\n',
    'THIS SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, express or implied, including',
    "Early one morning, before the sun had risen over the quiet harbour, the old fisherman untied his boat, "
    "looked back at the town where he had lived for seventy years, and said to nobody in particular that",
)
"""Those of the tests' reference."""

OTHERS = (
    "Water boils at a temperature of",
    "The best way to learn a language is to",
    "import numpy as np\n\ndef softmax(x):\n",
    "In 1969, the first humans landed on the",
    "Dear Sir or Madam, I am writing to complain about",
    "A philosopher once said that happiness",
    "You should have received a copy of the",
    "The recipe calls for two eggs, a cup of flour and",
)

METHODS: dict[str, tuple[MergeOptions, ...]] = {
    "nearest": (MergeOptions(rounding="nearest"),),
    "unbiased": tuple(MergeOptions(rounding="unbiased", seed=seed) for seed in range(3)),
    "calibrated on its own texts": (MergeOptions(rounding="calibrated"),),
    "unbiased, 1.1x": (MergeOptions(rounding="unbiased", budget=1.1),),
    "unbiased, 1.3x": tuple(MergeOptions(rounding="unbiased", budget=1.3, seed=seed) for seed in range(3)),
    "calibrated, 1.1x": (MergeOptions(rounding="calibrated", budget=1.1),),
    "calibrated, 1.3x": (MergeOptions(rounding="calibrated", budget=1.3),),
    "to Q5_1": (MergeOptions(type="Q5_1"),),
    "to Q8_0": (MergeOptions(type="Q8_0"),),
    "to F16": (MergeOptions(type="F16"),),
}


@dataclass(frozen=True)
class Answers:
    """Log-probabilities ``[T, vocab]`` of each prompt."""

    prompts: tuple[FloatArray, ...]

    def distances(self, other: Answers) -> tuple[float, float, float, float]:
        """Return mean KL(self || other): at the last positions of both groups of prompts, and at all."""
        last, every = [], []
        for mine, theirs in zip(self.prompts, other.prompts, strict=True):
            found = [divergence(one, two) for one, two in zip(mine, theirs, strict=True)]
            last.append(found[-1])
            every.append(np.mean(found))
        count = len(PROMPTS)
        return tuple(  # type: ignore[return-value]
            float(np.mean(values)) for values in (last[:count], last[count:], every[:count], every[count:])
        )


def main(run: Run) -> None:
    """Merge by every method, and report KL(live || merged) as a share of KL(live || base)."""
    with demo(load_plugins()) as opened, tempfile.TemporaryDirectory() as folder:
        adapters = {adapter.name: adapter for adapter in opened.three}
        heard = [BlendChannel(name, adapters[name].version, scale) for name, scale in SCALES.items()]
        blend = BlendState(tuple(heard))
        request = ExportRequest(opened.base, adapters, blend)
        prompts = [opened.tokenizer.encode(text) for text in PROMPTS + OTHERS]
        live = answers(opened.base, adapters, blend, prompts)
        effect = live.distances(answers(opened.base, adapters, BASE_ALONE, prompts))
        if not run.as_json:
            print(f"{'':<30}{'size':>7}{'time':>8}   last positions      all positions")
        for name, settings in METHODS.items():
            rows = []
            for options in settings[: run.rounds]:
                path = Path(folder) / "merged.gguf"
                started = time.perf_counter()
                finish(merge(request, path, options))
                took = time.perf_counter() - started
                with closing(GgufFile.open(path)) as merged:
                    found = live.distances(answers(merged, {}, BASE_ALONE, prompts))
                    size = merged.file_size / opened.base.file_size
                rows.append([size, took, *(one / whole for one, whole in zip(found, effect, strict=True))])
            report(run, name, rows)


def answers(
    base: BaseModel, adapters: dict[str, Any], state: BlendState, prompts: Sequence[Sequence[int]]
) -> Answers:
    """Evaluate the prompts."""
    with closing(LocalEngine(choose_backend("numpy"), "dense")) as engine:
        engine.open(base)
        engine.attach(adapters)
        found = []
        for tokens in prompts:
            logits = engine.evaluate(tokens, state, positions="all").logits
            found.append(np.stack([log_softmax(row) for row in logits]).astype(np.float32))
    return Answers(tuple(found))


def report(run: Run, name: str, rows: Sequence[Sequence[float]]) -> None:
    """Print the mean over seeds."""
    size, took, *shares = np.mean(rows, axis=0)
    if run.as_json:
        fields = ("last", "last_others", "all", "all_others")
        kept = dict(zip(fields, map(float, shares), strict=True))
        row = {"name": f"keep, {name}", "size": size, "seconds": took, "seeds": len(rows), **kept}
        print(json.dumps(row))
    else:
        cells = "".join(f"{share:9.4f}" for share in shares)
        print(f"{name:<30}{size:6.2f}x{took:7.1f}s{cells}", flush=True)
