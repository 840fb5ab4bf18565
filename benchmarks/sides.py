"""The two sides of a comparison: the demo's base and adapters, open in our engine and in llama.cpp."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks.demo import demo
from benchmarks.llama_cpp import LlamaCpp
from benchmarks.rounds import milliseconds
from studio.contracts import BlendChannel, BlendState, Sampling
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.registry import load_plugins

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.demo import Demo
    from benchmarks.run import Run
    from studio.contracts import BaseModel
    from studio.lora.adapter import Adapter


class Side(Protocol):
    """Ours or theirs."""

    def prompt(self, tokens: Sequence[int], scales: Sequence[float]) -> float:
        """Set the first adapters' scales and evaluate a prompt anew: milliseconds to its last logits."""

    def decode(self, tokens: Sequence[int], count: int, scales: Sequence[float]) -> float:
        """Evaluate a prompt, then decode greedily: tokens a second, the prompt's time left out."""


class Ours:
    """Our engine with a base open; a prompt with n scales hears the first n of the adapters."""

    def __init__(
        self, base: BaseModel, adapters: Sequence[Adapter], engine: LocalEngine | None = None
    ) -> None:
        self.engine = engine or LocalEngine(choose_backend("numpy"))
        self.engine.open(base)
        self._adapters = {f"adapter {number}": adapter for number, adapter in enumerate(adapters)}

    def prompt(self, tokens: Sequence[int], scales: Sequence[float]) -> float:
        """Evaluate one blend: milliseconds."""
        blend = self.blend(scales)
        return milliseconds(lambda: self.engine.evaluate(tokens, blend))

    def decode(self, tokens: Sequence[int], count: int, scales: Sequence[float]) -> float:
        """Decode greedily after a prompt: tokens a second."""
        stream = self.engine.generate(tokens, self.blend(scales), Sampling(max_tokens=count + 1))
        next(stream)  # the prompt's
        return 1e3 * count / milliseconds(lambda: [next(stream) for _ in range(count)])

    def batch(self, tokens: Sequence[int], many_scales: Sequence[Sequence[float]]) -> float:
        """Evaluate several blends at once: milliseconds of all."""
        blends = [self.blend(scales) for scales in many_scales]
        return milliseconds(lambda: self.engine.evaluate_many(tokens, blends))

    def blend(self, scales: Sequence[float]) -> BlendState:
        """Attach as many adapters as there are scales, and return their blend."""
        heard = dict(itertools.islice(self._adapters.items(), len(scales)))
        self.engine.attach(heard)
        return BlendState(
            tuple(
                BlendChannel(key, adapter.version, scale)
                for (key, adapter), scale in zip(heard.items(), scales, strict=True)
            )
        )


@dataclass(frozen=True)
class Sides:
    """Ours and, with the peers' environment, theirs.

    Attributes
    ----------
    demo
        What both have open.
    ours
        Our side.
    theirs
        llama.cpp's; None without peers.
    """

    demo: Demo
    ours: Ours
    theirs: LlamaCpp | None

    def __iter__(self) -> Iterator[Side]:
        """Ours comes first."""
        yield self.ours
        if self.theirs is not None:
            yield self.theirs

    @property
    def their_settings(self) -> dict[str, bool] | None:
        """What their figures hold for."""
        return None if self.theirs is None else self.theirs.settings.as_fields()


@contextmanager
def open_sides(run: Run, adapter_count: int) -> Iterator[Sides]:
    """Open the demo on both sides, with so many adapters."""
    with ExitStack() as stack:
        opened = stack.enter_context(demo(load_plugins()))
        theirs = None
        if run.peers:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            files = opened.adapter_files(adapter_count, folder)
            theirs = LlamaCpp.fastest(run.peers, opened.base.path, files, opened.tokens())
            stack.enter_context(theirs)
        ours = Ours(opened.base, opened.adapters(adapter_count))
        stack.callback(ours.engine.close)
        yield Sides(opened, ours, theirs)
