"""What a plugin can register, and the look-ups that the faces hand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from studio.contracts.adapters import CombinedDelta, DeltaAdapter, DeltaPart
    from studio.contracts.mixer import BlendState
    from studio.contracts.models import BaseModel
    from studio.contracts.training import Optimiser, Trainer
    from studio.contracts.work import Work
    from studio.errors import StudioError


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

    def load(self, path: Path, base: BaseModel | None, options: Any) -> DeltaAdapter:
        """Read it, names and row order as `base` has them. Raises `FormatError`, `MismatchError`.

        What comes back is a `LowRankAdapter`, such as `studio.api.Adapter`, or a `studio.api.DoraAdapter`.
        """


class CombineMethod(Extension, Protocol):
    """Makes one delta of several, module by module; each module is combined by itself."""

    def combine(self, module: str, parts: Sequence[DeltaPart], options: Any) -> CombinedDelta:
        """Combine the deltas of one module: in factors wherever the mathematics allows, else dense.

        Parameters
        ----------
        module
            The GGUF weight name; with the options' seed it seeds whatever is random.
        parts
            At least one, those of audible adapters that have the module, in the order of the stack.
        """


@dataclass(frozen=True)
class Combination:
    """A method of combining with its options."""

    method: CombineMethod
    options: Any


@dataclass(frozen=True)
class ExportRequest:
    """What an exporter gets: the base, the adapters on the stack by key, and the blend to write.

    Without a `combination` the deltas add up as they are heard, which is exact.
    """

    base: BaseModel
    adapters: Mapping[str, DeltaAdapter]
    state: BlendState
    combination: Combination | None = None


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and what the user should know of it, one sentence each."""

    path: Path
    notes: tuple[str, ...] = ()


class Exporter(Extension, Protocol):
    """Writes a blend to one file or folder."""

    @property
    def suffix(self) -> str:
        """The file suffix it writes, such as ``.gguf``; empty where it writes a folder."""

    def export(self, request: ExportRequest, path: Path, options: Any) -> Work:
        """Write the blend atomically; closing the generator early leaves the target as it was.

        The work returns an `Exported`, or nothing where there is nothing to say.
        """


@dataclass(frozen=True)
class Prediction:
    """What an export will be, told before it is written.

    Attributes
    ----------
    nbytes
        About how large, in bytes.
    type_name
        The type that what carries the blend is stored in, such as ``F16``; in a merged file, the one that
        most of the changed weights have.
    merged
        Whether it is the base with the blend in it, rather than an adapter.
    """

    nbytes: int
    type_name: str
    merged: bool = False


@runtime_checkable
class PredictingExporter(Exporter, Protocol):
    """An exporter that tells of itself and of what it would write; the desk shows that first."""

    @property
    def summary(self) -> str:
        """Return what it writes and who reads that, in one plain sentence."""

    def predict(self, request: ExportRequest, ranks: Mapping[str, int], options: Any) -> Prediction:
        """Tell what an export would be, without reading a weight.

        Parameters
        ----------
        request, options
            As in `export`.
        ranks
            The rank that each module of the export has.
        """


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
    def combine_methods(self) -> Sequence[CombineMethod]:
        """All working methods of combining, by name."""

    @property
    def trainers(self) -> Sequence[Trainer]:
        """All working trainers, by name."""

    @property
    def optimisers(self) -> Sequence[Optimiser]:
        """All working optimisers, by name."""

    @property
    def panels(self) -> Sequence[PanelSpec]:
        """All panels, by name."""

    @property
    def statuses(self) -> Sequence[PluginStatus]:
        """Every plugin found, the failed ones with their error."""
