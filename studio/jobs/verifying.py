"""The proof of an export: the blend beside what the exported file answers, on the same texts."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, PredictingExporter, Progress
from studio.errors import EngineError, FormatError, MismatchError, StudioError, UnsupportedError
from studio.formats.disk_space import require_space
from studio.formats.gguf_file import most_stored_type
from studio.formats.gguf_header import read_header
from studio.formats.safetensors_file import read_safetensors_header
from studio.jobs.agreement import RELATIVE_BOUNDS, Agreement
from studio.jobs.finding import found_adapter, recognising
from studio.jobs.kept import delta_kept
from studio.jobs.opening import NO_OPTIONS, model_loader, open_base, read_adapter
from studio.jobs.reference import Reference, live_blend, wanted_blend
from studio.session.next_token import divergence, log_softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO

    from studio.contracts import (
        BaseModel,
        Engine,
        Exporter,
        ExportRequest,
        FloatArray,
        Plugins,
        TensorInfo,
        Work,
    )
    from studio.jobs.agreement import Kind

Chunk = tuple[int, ...]

CHUNK_TOKENS = 128
"""How many tokens are evaluated at once: a position of a large vocabulary takes a megabyte of logits."""


def verify(
    request: ExportRequest,
    exported: Path,
    texts: Sequence[Sequence[int]],
    plugins: Plugins,
    make_engine: Callable[[], Engine],
    options: Mapping[str, object] = NO_OPTIONS,
) -> Work:
    """Compare the blend with an exported file and return an `Agreement`.

    Parameters
    ----------
    request
        The base, the adapters and the blend that was exported, by its method where it has one.
    exported
        An adapter or a model that the plugins' loaders read.
    texts
        Token ids of the texts to compare on; long ones are cut into pieces.
    plugins
        Whose loaders to use.
    make_engine
        Makes an engine of its own for the work, which this closes.
    options
        Of the loader that reads an exported adapter.

    Raises
    ------
    EngineError
        There is no text, or the base cannot run.
    UnsupportedError
        What was exported is nothing that the studio reads.
    MismatchError
        The exported model has another vocabulary.
    StudioError
        The exported file cannot be read.
    """
    if not any(texts):
        raise EngineError("there is no text to verify on", remedy="Give a text of at least one token")
    kind, type_name = _kind_and_type(exported, plugins)
    with ExitStack() as resources:
        wanted = yield from wanted_blend(request, plugins, resources)
        engine = resources.enter_context(closing(make_engine()))
        engine.open(wanted.base)
        chunks = _chunks(texts, engine.context_length)
        passes = 3 if request.combination is None else 4
        comparing = _Comparing(engine, wanted.base, chunks, passes, resources)
        yield from comparing.keep(wanted)
        alone = yield from comparing.compare(Reference(request.base, {}, BASE_ALONE), "the base")
        moved = 0.0
        if request.combination is not None:
            live = yield from comparing.compare(live_blend(request), "the live blend")
            moved = live.mean_kl
        if kind == "adapter":
            adapter = read_adapter(exported, request.base, plugins, options).adapter
            state = BlendState((BlendChannel("exported", adapter.version, 1.0),))
            found = Reference(request.base, {"exported": adapter}, state)
        else:
            opened = yield from open_base(exported, plugins)
            resources.callback(opened.base.close)
            found = Reference(opened.base, {}, BASE_ALONE)
        comparison = yield from comparing.compare(found, "the exported file")
        modules = (yield from delta_kept(request, found.base)) if kind == "model" else ()
    return Agreement(
        kind=kind,
        type_name=type_name,
        positions=len(comparison.divergences),
        mean_kl=comparison.mean_kl,
        max_kl=max(comparison.divergences),
        effect=alone.mean_kl,
        top1=comparison.same / len(comparison.divergences),
        max_error=comparison.max_error,
        relative_error=comparison.relative_error,
        modules=modules,
        method=request.combination.method.name if request.combination else "",
        moved=moved,
    )


def is_read_back(exporter: Exporter, request: ExportRequest, options: Any) -> bool:
    """Say whether the studio reads what an exporter writes: merged models it reads as one file alone."""
    if exporter.suffix or not isinstance(exporter, PredictingExporter):
        return True
    try:
        return not exporter.predict(request, {}, options).merged
    except StudioError:  # the export says why
        return True


def _kind_and_type(exported: Path, plugins: Plugins) -> tuple[Kind, str]:
    """Return what a file or folder is read as, and the type it is judged by."""
    with found_adapter(exported, plugins.adapter_loaders) as found:
        if found is not None:
            return "adapter", stored_type(found.path, "adapter")
    if exported.is_dir() and recognising(exported, plugins.model_loaders) is None:
        raise UnsupportedError(
            "the studio does not read this folder back, so it cannot be verified here",
            path=exported,
            remedy="Verify a GGUF model or an adapter",
        )
    model_loader(exported, plugins)
    return "model", stored_type(exported, "model")


def stored_type(path: Path, kind: Kind) -> str:
    """Return the type that a file or folder is judged by; empty where its format is not known here.

    It is the coarsest that an adapter's factors have, and the one that most of a model's weights have.
    """
    infos = _tensor_infos(path)
    present = {info.type_name for info in infos.values()}
    known = [name for name in RELATIVE_BOUNDS["adapter"] if name in present]
    if kind == "model" or present - set(known):
        return most_stored_type(infos)
    return known[-1] if known else ""


def _tensor_infos(path: Path) -> Mapping[str, TensorInfo]:
    """Return the tensors of a GGUF file, of a safetensors file, or of those in a folder."""
    if path.suffix == ".json":  # a PEFT or MLX directory, named by its configuration
        path = path.parent
    if path.is_dir():
        return {
            name: info
            for file in sorted(path.glob("*.safetensors"))
            for name, info in read_safetensors_header(file).items()
        }
    try:
        return {name: tensor.info for name, tensor in read_header(path).tensors.items()}
    except FormatError:
        pass
    try:
        return read_safetensors_header(path)
    except FormatError:  # whoever loads it says what is wrong, if anything is
        return {}


class _Comparison:
    """What is summed up over the positions."""

    def __init__(self) -> None:
        self.divergences: list[float] = []
        self.same = 0
        self.max_error = 0.0
        self.squares = [0.0, 0.0]  # of the difference, of the wanted logits

    @property
    def mean_kl(self) -> float:
        """Mean KL(wanted || found), in nats."""
        return float(np.mean(self.divergences))

    @property
    def relative_error(self) -> float:
        """||found - wanted|| / ||wanted||, over all logits."""
        return float(np.sqrt(self.squares[0] / self.squares[1])) if self.squares[1] else 0.0

    def add(self, wanted: FloatArray, found: FloatArray) -> None:
        """Take the logits ``[T, vocab]`` of one piece of text."""
        self.divergences += _divergences(wanted, found)
        self.same += int(np.count_nonzero(wanted.argmax(axis=-1) == found.argmax(axis=-1)))
        difference = found.astype(np.float64) - wanted
        self.max_error = max(self.max_error, float(np.abs(difference).max()))
        self.squares[0] += float(np.sum(difference**2))
        self.squares[1] += float(np.sum(wanted.astype(np.float64) ** 2))


class _Comparing:
    """Runs one model after another on the same pieces of text, and compares each with the first.

    The logits of the first are on the disk: of a large vocabulary they are many.

    Parameters
    ----------
    engine
        It has a base open.
    base
        That base.
    chunks
        The pieces of text.
    passes
        How many models are run in all, for the progress.
    resources
        What is to be closed afterwards is put on it.
    """

    def __init__(
        self,
        engine: Engine,
        base: BaseModel,
        chunks: Sequence[Chunk],
        passes: int,
        resources: ExitStack,
    ) -> None:
        self._engine = engine
        self._base = base
        self._chunks = chunks
        self._done = 0
        self._total = passes * len(chunks)
        self._spool: IO[bytes] = resources.enter_context(tempfile.TemporaryFile())

    def keep(self, wanted: Reference) -> Work:
        """Evaluate what all else is compared with."""
        for done, chunk in enumerate(self._chunks):
            yield self._progress("the blend")
            logits = self._logits(wanted, chunk)
            if done == 0:
                tokens = sum(len(one) for one in self._chunks)
                require_space(Path(tempfile.gettempdir()) / "logits", tokens * logits[0].nbytes)
            self._spool.write(logits.tobytes())

    def compare(self, found: Reference, name: str) -> Work:
        """Evaluate another model, or another blend, and return a `_Comparison`."""
        comparison = _Comparison()
        self._spool.seek(0)
        for done, chunk in enumerate(self._chunks):
            yield self._progress(name)
            logits = self._logits(found, chunk)
            data = self._spool.read(logits.nbytes)
            if len(data) != logits.nbytes or (done == len(self._chunks) - 1 and self._spool.read(1)):
                raise MismatchError(
                    "the exported model has another vocabulary than the base",
                    remedy="Verify it with its own base",
                )
            comparison.add(np.frombuffer(data, np.float32).reshape(logits.shape), logits)
        return comparison

    def _progress(self, name: str) -> Progress:
        self._done += 1
        return Progress(self._done - 1, self._total, f"Evaluating {name}")

    def _logits(self, reference: Reference, chunk: Chunk) -> FloatArray:
        """Return logits ``[T, vocab]``; one model is in memory at a time."""
        if reference.base is not self._base:
            self._engine.close()
            self._engine.open(reference.base)
            self._base = reference.base
        self._engine.attach(reference.adapters)
        return self._engine.evaluate(chunk, reference.state, positions="all").logits


def _divergences(wanted: FloatArray, found: FloatArray) -> Iterator[float]:
    """Return KL(wanted || found) of each position of logits ``[T, vocab]``."""
    for one, other in zip(wanted, found, strict=True):  # one at a time: float64 [T, vocab] would be large
        yield divergence(log_softmax(one), log_softmax(other))


def _chunks(texts: Sequence[Sequence[int]], context: int) -> list[Chunk]:
    length = min(CHUNK_TOKENS, context)
    return [tuple(text[start : start + length]) for text in texts for start in range(0, len(text), length)]
