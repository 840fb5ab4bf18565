"""The protocols and small values that the rooms of the studio share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from studio.errors import StudioError

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
"""A NumPy array of float32; comments give its shape."""

MetadataValue: TypeAlias = "bool | int | float | str | list[Any] | np.ndarray[Any, Any]"
"""A metadata value of a model file. Arrays of numbers are NumPy arrays, arrays of text are lists."""

Cancelled: TypeAlias = Callable[[], bool]
"""Asked between two steps of long work; true means: stop now with `CancelledError`."""

Positions: TypeAlias = Literal["last", "all", "scores"]
"""What an evaluation returns: the last position's logits, every position's, or the last's and scores."""


def never() -> bool:
    """Say that nobody wants to cancel."""
    return False


# Models


@dataclass(frozen=True)
class TensorInfo:
    """What a model file says of one tensor, known without reading its bytes.

    Attributes
    ----------
    name
        The GGUF name, such as ``blk.0.attn_q.weight``.
    shape
        In NumPy order: ``(out, in)`` for a linear weight, ``(E, out, in)`` for one of E experts.
    type_name
        The storage type, such as ``F16`` or ``Q4_1``.
    nbytes
        Size in the file, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    type_name: str
    nbytes: int


@runtime_checkable
class BaseModel(Protocol):
    """An opened base model: its metadata, its tensor index, and its tensors on request."""

    @property
    def path(self) -> Path:
        """The file it was opened from; the first one where there are several."""

    @property
    def files(self) -> Sequence[Path]:
        """All files that it lies in, which nothing may overwrite while it is open."""

    @property
    def name(self) -> str:
        """A name to show: ``general.name``, or the file's stem."""

    @property
    def architecture(self) -> str:
        """The value of ``general.architecture``, such as ``llama``."""

    @property
    def file_type(self) -> str:
        """The storage type most of its weights have, such as ``Q4_1``."""

    @property
    def file_size(self) -> int:
        """Size of its files in bytes."""

    @property
    def metadata(self) -> Mapping[str, MetadataValue]:
        """All metadata, by key."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensor index, in file order, by name."""

    def dense(self, name: str) -> FloatArray:
        """Return one tensor as float32 in its NumPy shape. Raises `FormatError` if it has no such tensor."""

    def close(self) -> None:
        """Let go of the files."""


@runtime_checkable
class RawTensors(Protocol):
    """What a `BaseModel` may offer besides: its tensors as they are stored, so that they can stay small."""

    def raw(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return one tensor as stored: uint8 in its NumPy shape, the last dimension in bytes a row."""


# Adapters


@runtime_checkable
class DeltaAdapter(Protocol):
    """Anything that can be pushed on a stack: it adds a delta to the output of the modules it names.

    `studio.lora.adapter.Adapter` is the low-rank one. An object of a stranger that satisfies this protocol
    acts in the forward pass as well.
    """

    @property
    def name(self) -> str:
        """A name to show."""

    @property
    def version(self) -> int:
        """A number that changes whenever the delta does, so that no cache goes stale."""

    @property
    def modules(self) -> Sequence[str]:
        """The GGUF names of the weights it acts on, such as ``blk.0.attn_q.weight``."""

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        """Return the delta at scale 1 of inputs ``[..., in]`` as ``[..., out]``; None without the module.

        A weight of E experts takes ``[E, T, in]``, a block of inputs for each.
        """


@runtime_checkable
class LowRankFactors(Protocol):
    """The factors of one module: dW = scaling * B @ A."""

    @property
    def a(self) -> FloatArray:
        """The down-projection A, ``(rank, in)``; ``(E, rank, in)`` for a weight of E experts."""

    @property
    def b(self) -> FloatArray:
        """The up-projection B, ``(out, rank)`` or ``(E, out, rank)``."""

    @property
    def scaling(self) -> float:
        """What the adapter itself scales by: alpha / rank, or alpha / sqrt(rank) for rsLoRA."""


@runtime_checkable
class LowRankAdapter(DeltaAdapter, Protocol):
    """A `DeltaAdapter` that shows its factors, so that a stack can apply many of them in one product."""

    @property
    def factors(self) -> Mapping[str, LowRankFactors]:
        """The factors by module name."""


# The mixer


@dataclass(frozen=True)
class ChannelState:
    """One channel strip: the adapter's key on the stack and where its controls stand."""

    key: str
    scale: float = 1.0
    muted: bool = False
    soloed: bool = False


@dataclass(frozen=True)
class MixerState:
    """Where every control of the mixer stands; what undo, presets and sessions store."""

    channels: tuple[ChannelState, ...] = ()
    master: float = 1.0

    def audible(self, channel: ChannelState) -> bool:
        """Say whether a channel is heard: soloed if any channel is, else not muted."""
        if any(other.soloed for other in self.channels):
            return channel.soloed
        return not channel.muted


@dataclass(frozen=True)
class BlendChannel:
    """One audible adapter of a blend: its key on the stack, its version, its scale times the master's."""

    key: str
    version: int
    scale: float


@dataclass(frozen=True)
class BlendState:
    """The audible part of a mixer: hashable, so it keys caches. Silent channels (scale 0) are left out."""

    channels: tuple[BlendChannel, ...] = ()


BASE_ALONE = BlendState()
"""The blend with no adapter in it: the base model as it is."""


# The engine


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The default is greedy.

    Attributes
    ----------
    max_tokens
        How many tokens to make at most; fewer when the model ends its turn or the context is full.
    temperature
        0 is greedy.
    top_k
        Keep the k likeliest tokens; 0 keeps all.
    top_p
        Keep the smallest set whose probability reaches p; 1 keeps all.
    min_p
        Drop tokens below this share of the likeliest one's probability; 0 drops none.
    seed
        Seed of the random choice; None draws a fresh one.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """The result of one forward pass, as plain NumPy.

    Attributes
    ----------
    tokens
        The tokens that were evaluated.
    state
        The blend they were evaluated with.
    logits
        float32 ``[vocab]`` of the last position, or ``[T, vocab]`` where all were asked for.
    scores
        float32 ``[T - 1]``: log-probability of each token from the second on, given those before it. None
        unless asked for.
    milliseconds
        Wall-clock time of the pass.
    """

    tokens: tuple[int, ...]
    state: BlendState
    logits: FloatArray
    scores: FloatArray | None
    milliseconds: float


class Engine(Protocol):
    """Turns (base, adapters, tokens, blend) into logits. One thread at a time may call it.

    Every method but `close` raises `EngineError` when no base is open or the device fails.
    """

    @property
    def description(self) -> str:
        """Which backend runs and why, in one line for the status bar."""

    @property
    def context_length(self) -> int:
        """The longest sequence the open base takes, in tokens."""

    def open(self, base: BaseModel) -> None:
        """Make this the base. Raises `UnsupportedError` for an unknown architecture; the old one stays."""

    def attach(self, adapters: Mapping[str, DeltaAdapter]) -> None:
        """Make exactly these adapters available, by the key that blends name them with."""

    def evaluate(
        self,
        tokens: Sequence[int],
        state: BlendState,
        *,
        positions: Positions = "last",
        cancelled: Cancelled = never,
    ) -> Evaluation:
        """Run the tokens through the blend. Raises `CancelledError` at the next layer once cancelled."""

    def evaluate_many(
        self, tokens: Sequence[int], states: Sequence[BlendState], *, cancelled: Cancelled = never
    ) -> list[Evaluation]:
        """Evaluate the last position of the same tokens under several blends."""

    def generate(
        self,
        tokens: Sequence[int],
        state: BlendState,
        sampling: Sampling,
        *,
        stop: frozenset[int] = frozenset(),
        cancelled: Cancelled = never,
    ) -> Iterator[int]:
        """Yield new tokens one by one; a token in `stop` ends the stream and is not yielded.

        Other calls may come between two tokens: the stream keeps the adapters and the blend it began with.
        """

    def close(self) -> None:
        """Free the weights and the device."""


# Long work


@dataclass(frozen=True)
class Progress:
    """How far a job is: `done` of `total` steps, and what it is doing. `total` 0 means: not known."""

    done: int
    total: int
    message: str = ""


Work: TypeAlias = Generator[Progress, None, Any]
"""Long work as a generator: it yields its progress and returns its result. Closing it cancels it."""


# Plugins


@dataclass(frozen=True)
class ExportRequest:
    """What an exporter gets: the base, the adapters on the stack by key, and the blend to write."""

    base: BaseModel
    adapters: Mapping[str, DeltaAdapter]
    state: BlendState


class Extension(Protocol):
    """What every registered object has: a unique name, and options that render as a form and as flags.

    `Options` is a frozen dataclass in which every field has a default; a field's metadata may hold ``help``
    (str), ``choices`` (sequence) and ``range`` (pair).
    """

    @property
    def name(self) -> str:
        """A unique name to show."""

    @property
    def Options(self) -> type[Any]:  # noqa: N802 - it is a class
        """The frozen dataclass of its options."""


class ModelLoader(Extension, Protocol):
    """Opens base models of one format."""

    def recognises(self, path: Path) -> bool:
        """Say by content whether this loader should open the path. Never raises."""

    def load(self, path: Path, options: Any) -> BaseModel:
        """Open it. Raises `FormatError`."""


class AdapterLoader(Extension, Protocol):
    """Reads adapters of one format."""

    def recognises(self, path: Path) -> bool:
        """Say by content whether this loader should read the path. Never raises."""

    def load(self, path: Path, base: BaseModel | None, options: Any) -> LowRankAdapter:
        """Read it, names and row order as `base` has them. Raises `FormatError`, `MismatchError`."""


class Exporter(Extension, Protocol):
    """Writes a blend to one file."""

    @property
    def suffix(self) -> str:
        """The file suffix it writes, such as ``.gguf``."""

    def export(self, request: ExportRequest, path: Path, options: Any) -> Work:
        """Write the blend atomically; closing the generator early leaves the target as it was."""


@dataclass(frozen=True)
class PanelSpec:
    """A dock of a plugin: its title and ``module:factory``, imported when first shown.

    The factory takes the session and returns a QWidget.
    """

    name: str
    factory: str


@dataclass(frozen=True)
class PluginStatus:
    """One plugin as the plugin list shows it; `error` is None for a working one.

    Two plugins may have the same name; the distribution they came in tells them apart.
    """

    name: str
    version: str
    provides: tuple[str, ...] = ()
    error: StudioError | None = None
    distribution: str = ""


class Plugins(Protocol):
    """The look-ups that the faces hand to the session and its jobs."""

    @property
    def model_loaders(self) -> Sequence[ModelLoader]:
        """All working model loaders, by name."""

    @property
    def adapter_loaders(self) -> Sequence[AdapterLoader]:
        """All working adapter loaders, by name."""

    @property
    def exporters(self) -> Sequence[Exporter]:
        """All working exporters, by name."""

    @property
    def panels(self) -> Sequence[PanelSpec]:
        """All panels, by name."""

    @property
    def statuses(self) -> Sequence[PluginStatus]:
        """Every plugin found, the failed ones with their error."""
