"""The heatmap: weight norms of the blend straight from the stack, with no forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PySide6.QtCore import QObject, Signal

from studio.contracts import EVEN, BlendChannel, BlendState, Progress
from studio.gui.frame import OncePerFrame
from studio.lora.analysis import BlendNorms, base_norms
from studio.lora.report import adaptable_modules
from studio.lora.targets import layer_of, target_of, targets_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from studio.contracts import BaseModel, DeltaAdapter, Gains
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.heatmap_view import HeatmapView
    from studio.jobs.job import Job
    from studio.learning.sensitivity import Sensitivity
    from studio.lora.analysis import Norms
    from studio.session.session import Session

    Members: TypeAlias = tuple[tuple[str, int], ...]

NORM, RELATIVE, KEPT, SLOPE, ADAPTER = "norm", "relative", "kept", "slope:", "adapter:"
"""The modes of the heatmap; an adapter's mode is the prefix and its key, the blend's slope has no key."""

SLOPE_UNIT = "nats"


OPEN_A_BASE = "Open a base model with Ctrl+B, or drop one anywhere"
ADD_AN_ADAPTER = "Add an adapter with Ctrl+T to see where in the model it acts"


def _blend_norms(
    adapters: Mapping[str, DeltaAdapter], modules: tuple[str, ...]
) -> Generator[Progress, None, BlendNorms]:
    yield Progress(0, 1, f"{len(adapters)} adapters, {len(modules)} modules")
    return BlendNorms.of(adapters, modules)


class NormsController(QObject):
    """Keeps the heatmap true to the stack. What costs time is computed in jobs, when the members change."""

    changed = Signal()
    """Emitted when norms of other members, or of another base, are there."""
    mode_changed = Signal()
    """Emitted when something else is shown."""

    def __init__(self, session: Session, jobs: JobsController, view: HeatmapView, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._jobs = jobs
        self._view = view
        self._mode = NORM
        self._modules: tuple[str, ...] = ()
        self._rows = self._columns = np.zeros(0, dtype=np.intp)
        self._shape = (0, 0)
        self._members: Members = ()
        self._norms: BlendNorms | None = None
        self._measured: Members = ()
        self._measuring: Job | None = None
        self._base: BaseModel | None = None
        self._base_norms: Norms | None = None
        self._weighing: Job | None = None
        self._kept: tuple[str, Mapping[str, float]] | None = None
        self._slopes: Sensitivity | None = None
        self._frame = OncePerFrame(self._follow, self)
        session.base_changed.connect(self._take_base)
        session.stack.changed.connect(self._frame.request)
        view.mode_changed.connect(self._choose)
        self._paint()

    @property
    def ready(self) -> bool:
        """Whether all that the heatmap can show of the session is computed."""
        return self._base_norms is not None and self._members == self._measured == self._present()

    def strength(self, key: str, scale: float, gains: Gains) -> float | None:
        """Return ||dW|| / ||W|| of an adapter over what it acts on, or None while not known."""
        if self._norms is None or self._base_norms is None or key not in self._norms.keys:
            return None
        acts = self._norms.own_norms()[:, self._norms.keys.index(key)] > 0
        whole = float(np.linalg.norm(self._base_norms[acts]))
        heard = self._norms.blend_norms(BlendState((BlendChannel(key, 0, scale, gains),)))
        return float(np.linalg.norm(heard)) / whole if whole else None

    def offer_kept(self, name: str, kept: Mapping[str, float], *, show: bool) -> None:
        """Offer how much of the delta each module of a merged file keeps, until another base is open.

        Parameters
        ----------
        name
            The file.
        kept
            By module; 1 is all of it.
        show
            Whether to show it at once.
        """
        self._kept = name, kept
        if show:
            self._mode = KEPT
        self._offer_modes()
        self._paint()

    @property
    def shows_slopes(self) -> bool:
        """Whether the slopes of the loss are asked for."""
        return self._mode.startswith(SLOPE)

    def show_slopes(self, slopes: Sensitivity | None) -> None:
        """Show how the loss changes; None while that is not known."""
        self._slopes = slopes
        self._paint()

    def ask_slopes(self) -> None:
        """Show the slopes of the blend, or what can be shown of them."""
        self._mode = SLOPE
        self._offer_modes()
        self._choose(self._mode)

    def _present(self) -> Members:
        adapters = self._session.stack.by_key
        return tuple((key, adapter.version) for key, adapter in adapters.items())

    def _take_base(self) -> None:
        """Lay the grid out for another base and weigh its weights, once."""
        base = self._session.base
        if base is self._base:
            return
        self._base, self._base_norms, self._norms = base, None, None
        self._members = self._measured = ()
        self._kept = self._slopes = None
        modules = tuple(adaptable_modules(base)) if base else ()
        self._modules = tuple(module for module in modules if layer_of(module) is not None)
        targets = targets_of(self._modules)
        layers = [layer_of(module) or 0 for module in self._modules]
        self._rows = np.array([targets.index(target_of(module)) for module in self._modules], dtype=np.intp)
        self._columns = np.array(layers, dtype=np.intp)
        self._shape = (len(targets), max(layers, default=-1) + 1)
        self._view.set_grid(targets, self._shape[1])
        if self._weighing is not None:
            self._weighing.cancel()
        if base is not None:
            self._weighing = self._jobs.run(
                f"Weigh {base.name}",
                base_norms(base, self._modules),
                lambda norms: self._take_base_norms(base, norms),
                aside=True,
            )
        self._frame.request()

    def _take_base_norms(self, base: BaseModel, norms: Norms) -> None:
        if base is self._base:
            self._base_norms = norms
            self._paint()
            self.changed.emit()

    def _follow(self) -> None:
        """Repaint after changes of the stack; only new members cost a job."""
        members = self._present()
        if _keys(members) != _keys(self._members):
            self._norms, self._measured = None, ()
        if members != self._members:
            self._members = members
            self._offer_modes()
            self._measure()
        self._paint()

    def _measure(self) -> None:
        """Measure the members, one job at a time: an adapter that learns is another one every second."""
        adapters, members, base = self._session.stack.by_key, self._members, self._base
        if self._measuring is not None or members == self._measured:
            return
        if not adapters or not self._modules:
            self._measured = members
            return
        self._measuring = self._jobs.run(
            "Measure the adapters",
            _blend_norms(adapters, self._modules),
            lambda norms: self._take_norms(base, members, norms),
            aside=True,
            ended=self._end_measuring,
        )

    def _take_norms(self, base: BaseModel | None, members: Members, norms: BlendNorms) -> None:
        """Show norms of the same channels, even of adapters that have learnt since."""
        if base is self._base and _keys(members) == _keys(self._members):
            self._measured, self._norms = members, norms
            self._paint()
            self.changed.emit()

    def _end_measuring(self) -> None:
        self._measuring = None
        self._measure()

    def _offer_modes(self) -> None:
        keys = [key for key, _ in self._members]
        modes = [
            (NORM, "Blend ‖ΔW‖"),
            (RELATIVE, "Blend ‖ΔW‖ / ‖W‖"),
            *((ADAPTER + key, key) for key in keys),
        ]
        if keys:
            modes.append((SLOPE, "Sensitivity of the blend"))
            modes += [(SLOPE + key, f"Sensitivity to {key}") for key in keys]
        if self._kept is not None:
            modes.append((KEPT, f"Delta kept · {self._kept[0]}"))
        if self._mode not in dict(modes):
            self._mode = NORM
        self._view.set_modes(modes, self._mode)

    def _choose(self, mode: str) -> None:
        self._mode = mode
        self._paint()
        self.mode_changed.emit()

    def _paint(self) -> None:
        """Scatter one value a module over the grid; cells without a module stay blank."""
        if not self._modules:
            self._view.set_message(
                "This base has no weights that adapters act on" if self._base else OPEN_A_BASE
            )
            return
        shown = self._session.stack.by_key or self._mode == KEPT
        self._view.set_message("" if shown else ADD_AN_ADAPTER)
        found, unit = self._found()
        values = np.zeros(self._shape, dtype=np.float32)
        absent = np.ones(self._shape, dtype=np.bool_)
        values[self._rows, self._columns] = [found.get(module, 0.0) for module in self._modules]
        absent[self._rows, self._columns] = [module not in found for module in self._modules]
        self._view.set_values(values, absent=absent, unit=unit, diverging=self.shows_slopes)

    def _found(self) -> tuple[Mapping[str, float], str]:
        """Return what the mode shows, by module, and its unit."""
        if self._mode == KEPT and self._kept is not None:
            return {module: 100 * kept for module, kept in self._kept[1].items()}, "%"
        if self.shows_slopes:
            return self._slopes_of(self._mode.removeprefix(SLOPE)), SLOPE_UNIT
        norms, unit = self._values()
        return dict(zip(self._modules, norms.tolist(), strict=True)), unit

    def _slopes_of(self, key: str) -> Mapping[str, float]:
        """Return the slopes over a channel's scale by module; over all that is heard, without a key."""
        if self._slopes is None:
            return {}
        if not key:
            return self._slopes.whole()
        return self._slopes.by_module(key) if key in self._slopes.effective else {}

    def _values(self) -> tuple[Norms, str]:
        silent = np.zeros(len(self._modules))
        if self._norms is None:
            return silent, ""
        if self._mode.startswith(ADAPTER):
            key = self._mode.removeprefix(ADAPTER)
            gains = {channel.key: channel.gains for channel in self._session.stack.state.channels}
            alone = BlendChannel(key, 0, 1.0, gains.get(key, EVEN))
            return self._norms.blend_norms(BlendState((alone,))), ""
        norms = self._norms.blend_norms(self._session.stack.blend)
        if self._mode == NORM:
            return norms, ""
        return (silent, "%") if self._base_norms is None else (100 * norms / self._base_norms, "%")


def _keys(members: Members) -> list[str]:
    return [key for key, _ in members]
