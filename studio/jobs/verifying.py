"""The proof of an export: the live blend beside what the exported file answers, on the same texts."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Progress
from studio.errors import EngineError, MismatchError
from studio.formats.gguf_file import most_stored_type
from studio.formats.gguf_header import read_header
from studio.formats.safetensors_file import read_safetensors_header
from studio.jobs.kept import ModuleDelta, delta_kept
from studio.jobs.opening import open_base, read_adapter, recognises_adapter
from studio.session.next_token import divergence, log_softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO

    from studio.contracts import Engine, ExportRequest, FloatArray, Plugins, TensorInfo, Work

Kind: TypeAlias = Literal["adapter", "model"]
Chunk: TypeAlias = tuple[int, ...]

CHUNK_TOKENS = 128
"""How many tokens are evaluated at once: a position of a large vocabulary takes a megabyte of logits."""

RELATIVE_BOUNDS: Mapping[Kind, Mapping[str, float]] = {
    "adapter": {"F32": 1e-4, "F16": 2e-3, "BF16": 1e-2, "Q8_0": 3e-2},
    "model": {"F32": 1e-4, "F16": 5e-3, "BF16": 3e-2},
}
"""How far the logits may be from the live ones, relative to their norm, by the type of the weights."""

LOST_BOUND = 0.25
"""How much of the blend's effect a file of any other type may lose: KL(live || file) / KL(live || base)."""


@dataclass(frozen=True)
class Agreement:
    """How an exported file answers beside the live blend, over all positions of all texts.

    Attributes
    ----------
    kind
        Whether the file is an adapter, measured on the base at scale 1, or a model by itself.
    type_name
        The type most of its weights have.
    positions
        How many next-token distributions were compared.
    mean_kl, max_kl
        KL(live || exported) in nats.
    effect
        Mean KL(live || base) in nats: what the blend changes at all.
    top1
        The share of positions at which both think the same token the likeliest.
    max_error
        The largest difference of two logits.
    relative_error
        ||exported - live|| / ||live|| over all logits.
    modules
        How much of the wanted delta is in each module of a merged model; empty for an adapter.
    """

    kind: Kind
    type_name: str
    positions: int
    mean_kl: float
    max_kl: float
    effect: float
    top1: float
    max_error: float
    relative_error: float
    modules: tuple[ModuleDelta, ...] = ()

    @property
    def lost(self) -> float:
        """The share of the blend's effect that is lost: 0 is all kept, 1 is as far off as the bare base."""
        return self.mean_kl / self.effect if self.effect else 0.0

    @property
    def bound(self) -> str:
        """What it is held to, in words."""
        relative = RELATIVE_BOUNDS[self.kind].get(self.type_name)
        if relative is not None:
            return f"logits within {relative:g}, relative ({self.type_name})"
        return f"at most {LOST_BOUND:.0%} of the effect lost ({self.type_name})"

    @property
    def passed(self) -> bool:
        """Whether it stays within its bound."""
        relative = RELATIVE_BOUNDS[self.kind].get(self.type_name)
        return self.lost <= LOST_BOUND if relative is None else self.relative_error <= relative

    @property
    def verdict(self) -> str:
        """Say it in one sentence."""
        if self.passed and self.relative_error < 1e-3:
            return "The file answers as the live blend does."
        if self.passed:
            return f"The file answers nearly as the live blend does; {self.lost:.1%} of the effect is lost."
        if self.lost > 0.9:
            return "The adapter is gone: the file is as far from the live blend as the bare base is."
        return f"The file answers differently from the live blend: {self.lost:.0%} of the effect is lost."


def verify(
    request: ExportRequest,
    exported: Path,
    texts: Sequence[Sequence[int]],
    plugins: Plugins,
    make_engine: Callable[[], Engine],
) -> Work:
    """Compare the live blend with an exported file and return an `Agreement`.

    Parameters
    ----------
    request
        The base, the adapters and the blend that was exported.
    exported
        An adapter or a model that the plugins' loaders read.
    texts
        Token ids of the texts to compare on; long ones are cut into pieces.
    plugins
        Whose loaders to use.
    make_engine
        Makes an engine of its own for the work, which this closes.

    Raises
    ------
    EngineError
        There is no text, or the base cannot run.
    MismatchError
        The exported model has another vocabulary.
    StudioError
        The exported file cannot be read.
    """
    with tempfile.TemporaryFile() as spool:  # of logits, which are many where the vocabulary is large
        with closing(make_engine()) as engine:
            engine.open(request.base)
            engine.attach(request.adapters)
            chunks = _chunks(texts, engine.context_length)
            effects: list[float] = []
            for done, chunk in enumerate(chunks):
                yield Progress(done, 2 * len(chunks), "Evaluating the live blend")
                live = engine.evaluate(chunk, request.state, positions="all").logits
                alone = engine.evaluate(chunk, BASE_ALONE, positions="all").logits
                effects += _divergences(live, alone)
                spool.write(live.tobytes())
            spool.seek(0)
            kind: Kind = "adapter" if recognises_adapter(exported, plugins) else "model"
            if kind == "adapter":
                loaded = read_adapter(exported, request.base, plugins).adapter
                engine.attach({"exported": loaded})
                state = BlendState((BlendChannel("exported", loaded.version, 1.0),))
                comparison = yield from _compare(engine, chunks, state, spool)
        modules: tuple[ModuleDelta, ...] = ()
        if kind == "model":
            opened = yield from open_base(exported, plugins)
            with closing(opened.base), closing(make_engine()) as engine:
                engine.open(opened.base)
                comparison = yield from _compare(engine, chunks, BASE_ALONE, spool)
                modules = yield from delta_kept(request, opened.base)
    return comparison.agreement(kind, stored_type(exported, kind), float(np.mean(effects)), modules)


def stored_type(path: Path, kind: Kind) -> str:
    """Return the type that a file or folder is judged by.

    It is the coarsest that an adapter's factors have, and the one that most of a model's weights have.
    """
    infos: dict[str, TensorInfo] = {}
    if path.is_dir():
        for file in sorted(path.glob("*.safetensors")):
            infos |= read_safetensors_header(file)
    else:
        infos = {name: tensor.info for name, tensor in read_header(path).tensors.items()}
    if kind == "model":
        return most_stored_type(infos)
    present = {info.type_name for info in infos.values()}
    known = [name for name in RELATIVE_BOUNDS["adapter"] if name in present]
    return most_stored_type(infos) if present - set(known) else known[-1]


class _Comparison:
    """What is summed up over the positions."""

    def __init__(self) -> None:
        self.divergences: list[float] = []
        self.same = 0
        self.max_error = 0.0
        self.squares = [0.0, 0.0]  # of the difference, of the live logits

    def add(self, live: FloatArray, found: FloatArray) -> None:
        """Take the logits ``[T, vocab]`` of one piece of text."""
        self.divergences += _divergences(live, found)
        self.same += int(np.count_nonzero(live.argmax(axis=-1) == found.argmax(axis=-1)))
        difference = found.astype(np.float64) - live
        self.max_error = max(self.max_error, float(np.abs(difference).max()))
        self.squares[0] += float(np.sum(difference**2))
        self.squares[1] += float(np.sum(live.astype(np.float64) ** 2))

    def agreement(
        self, kind: Kind, type_name: str, effect: float, modules: tuple[ModuleDelta, ...]
    ) -> Agreement:
        """Return the result."""
        count = len(self.divergences)
        return Agreement(
            kind=kind,
            type_name=type_name,
            positions=count,
            mean_kl=float(np.mean(self.divergences)),
            max_kl=max(self.divergences),
            effect=effect,
            top1=self.same / count,
            max_error=self.max_error,
            relative_error=float(np.sqrt(self.squares[0] / self.squares[1])) if self.squares[1] else 0.0,
            modules=modules,
        )


def _compare(engine: Engine, chunks: Sequence[Chunk], state: BlendState, spool: IO[bytes]) -> Work:
    comparison = _Comparison()
    for done, chunk in enumerate(chunks, start=len(chunks)):
        yield Progress(done, 2 * len(chunks), "Evaluating the exported file")
        found = engine.evaluate(chunk, state, positions="all").logits
        data = spool.read(found.nbytes)
        if len(data) != found.nbytes or (done == 2 * len(chunks) - 1 and spool.read(1)):
            raise MismatchError(
                "the exported model has another vocabulary than the base",
                remedy="Verify it with its own base",
            )
        comparison.add(np.frombuffer(data, np.float32).reshape(found.shape), found)
    return comparison


def _divergences(live: FloatArray, found: FloatArray) -> Iterator[float]:
    """Return KL(live || found) of each position of logits ``[T, vocab]``."""
    for one, other in zip(live, found, strict=True):  # one at a time: float64 [T, vocab] would be large
        yield divergence(log_softmax(one), log_softmax(other))


def _chunks(texts: Sequence[Sequence[int]], context: int) -> list[Chunk]:
    length = min(CHUNK_TOKENS, context)
    chunks = [tuple(text[start : start + length]) for text in texts for start in range(0, len(text), length)]
    if not chunks:
        raise EngineError("there is no text to verify on", remedy="Give a text of at least one token")
    return chunks
