"""The gains editor: what it draws goes to the stack, the stack comes back to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QObject

from studio.gui.frame import OncePerFrame
from studio.gui.gains_editor import ChannelGains, GainsEditor
from studio.lora.gains import layer_count, over_layers, place_of, preset
from studio.lora.report import adaptable_modules
from studio.lora.targets import target_of, targets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import Gains
    from studio.gui.main_window import MainWindow
    from studio.session.session import Session


class GainsController(QObject):
    """Keeps one editor true to the channel it was opened for. One stroke is one step of the history."""

    def __init__(self, session: Session, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._window = window
        self.editor = GainsEditor(window)
        self.editor.layers_drawn.connect(self._draw)
        self.editor.preset_chosen.connect(self._take_preset)
        self.editor.drag_started.connect(session.history.begin)
        self.editor.drag_finished.connect(session.history.end)
        window.stack.gains_requested.connect(self.open)
        self._frame = OncePerFrame(self._follow, self)
        session.stack.changed.connect(self._frame.request)
        session.base_changed.connect(self._frame.request)

    def open(self, key: str) -> None:
        """Show the gains of a channel."""
        self._show(key)
        self.editor.show()
        self.editor.activateWindow()
        self.editor.curve.setFocus()

    def _follow(self) -> None:
        if not self.editor.isVisible():
            return
        if self.editor.key in self._session.stack.by_key:
            self._show(self.editor.key)
        else:
            self.editor.hide()

    def _show(self, key: str) -> None:
        adapter, gains = self._session.stack.by_key[key], self._session.stack.channel(key).gains
        targets, layers = targets_of(adapter.modules), self._layers(key)
        grid = np.full((len(targets), layers), np.nan, dtype=np.float32)
        for module in adapter.modules:
            place = place_of(module, layers)
            if place < layers:
                grid[targets.index(target_of(module)), place] = gains[module]
        colour = self._window.stack.colour_index(key)
        self.editor.set_channel(ChannelGains(key, adapter.name, colour, targets, grid))

    def _draw(self, key: str, targets: Sequence[str], by_layer: dict[int, float]) -> None:
        modules, before = self._channel(key)
        gains = over_layers(by_layer, modules, self._layers(key), targets=targets, before=before)
        self._session.stack.set_gains(key, gains)

    def _take_preset(self, key: str, name: str, targets: Sequence[str]) -> None:
        modules, before = self._channel(key)
        gains = preset(name, modules, self._layers(key), targets=targets, before=before)
        self._session.stack.set_gains(key, gains)

    def _channel(self, key: str) -> tuple[Sequence[str], Gains]:
        stack = self._session.stack
        return stack.by_key[key].modules, stack.channel(key).gains

    def _layers(self, key: str) -> int:
        """Return how many layers the base has; without a base, the adapter."""
        base = self._session.base
        modules = self._session.stack.by_key[key].modules if base is None else adaptable_modules(base)
        return max(layer_count(modules), 1)
