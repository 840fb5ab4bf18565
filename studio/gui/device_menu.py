"""The Engine menu: which device computes, how much memory each has free, and how the weights lie there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QMenu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtWidgets import QWidget

WEIGHTS = {
    "auto": "&Automatic",
    "dense": "&Float32: exact",
    "float16": "&Half precision (float16): on a GPU only",
    "quantised": "&Quantised: as small as the file",
}
"""The choices of how weights lie in memory, and what they are called."""


@dataclass(frozen=True)
class DeviceLine:
    """What the menu says of one device.

    Attributes
    ----------
    backend
        Its name.
    title
        What to call it.
    free
        Its free memory in bytes; None where it is not known.
    obstacle
        Why it cannot be chosen; empty where it can.
    """

    backend: str
    title: str
    free: int | None = None
    obstacle: str = ""

    @property
    def text(self) -> str:
        """The whole line: title and free memory, or title and obstacle."""
        title = self.title.replace("&", "&&")
        if self.obstacle:
            return f"{title} — {self.obstacle}"
        return title if self.free is None else f"{title} — {self.free / 1e9:.1f} GB free"


class DeviceMenu(QMenu):
    """Shows devices and takes a choice; it checks what it is told to, not what was clicked."""

    device_chosen = Signal(str)
    """(str): the name of the backend that was asked for."""
    weights_chosen = Signal(str)
    """(str): a key of `WEIGHTS`."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__("E&ngine", parent)
        self.setAccessibleName("Engine")
        self.devices: dict[str, QAction] = {}
        self.weights: dict[str, QAction] = {}
        self._device, self._weights = "auto", "auto"
        self._group = QActionGroup(self)
        self._separator = self.addSeparator()
        menu = self.addMenu("&Weights")
        menu.setAccessibleName("Weights")
        group = QActionGroup(self)
        for choice, title in WEIGHTS.items():
            self.weights[choice] = menu.addAction(title)
            self.weights[choice].setCheckable(True)
            self.weights[choice].triggered.connect(lambda _, choice=choice: self._choose_weights(choice))
            group.addAction(self.weights[choice])
        self.weights_menu = menu
        self.set_devices([DeviceLine("numpy", "CPU")])
        self.set_choice("auto", "auto")

    def set_devices(self, devices: Sequence[DeviceLine]) -> None:
        """List these, below the choice that is left to the studio."""
        for action in self.devices.values():
            self._group.removeAction(action)
            self.removeAction(action)
            action.deleteLater()
        self.devices = {}
        lines = [DeviceLine("auto", "Automatic"), *devices]
        for number, line in enumerate(lines):
            action = QAction(f"&{number}  {line.text}" if number else f"&{line.text}", self)
            action.setCheckable(True)
            action.setEnabled(not line.obstacle)
            action.triggered.connect(lambda _, backend=line.backend: self._choose_device(backend))
            self._group.addAction(action)
            self.insertAction(self._separator, action)
            self.devices[line.backend] = action
        self.set_choice(self._device, self._weights)

    def set_choice(self, device: str, weights: str) -> None:
        """Check what is in use."""
        self._device, self._weights = device, weights
        for name, action in self.devices.items():
            action.setChecked(name == device)
        self.weights[weights].setChecked(True)

    def _choose_device(self, backend: str) -> None:
        self.set_choice(self._device, self._weights)  # until the other one answers
        self.device_chosen.emit(backend)

    def _choose_weights(self, choice: str) -> None:
        self.set_choice(self._device, self._weights)
        self.weights_chosen.emit(choice)
