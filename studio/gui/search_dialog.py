"""Asks what the blend should write and how to look for it, and tells what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QDialog, QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from studio.gui.controls import DeskLabel
from studio.gui.fact_list import FactList
from studio.gui.loss_plot import LossPlot
from studio.gui.options_form import OptionsForm
from studio.gui.shapes import PRIMARY
from studio.gui.wanted_editor import WantedEditor

if TYPE_CHECKING:
    from collections.abc import Sequence

HINT = "Write what the blend should say. The sliders follow, and undo brings them back."


class SearchDialog(QDialog):
    """A window beside the desk, so that the sliders stay in sight. Its setters never emit.

    Parameters
    ----------
    options
        The dataclass of how to search.
    """

    search_requested = Signal()
    """Look for the blend."""
    stop_requested = Signal()
    """End the search, and take the best so far."""

    def __init__(self, options: type[Any], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Find the blend")
        self.editor = WantedEditor()
        self.form = OptionsForm(options)
        self.plot = LossPlot(lowest_so_far, "blends tried")
        self.plot.setAccessibleName("Loss of every blend that was tried")
        self.facts = FactList("What was found")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.bar.setAccessibleName("Progress of the search")
        self.search_button = QPushButton("Find")
        self.search_button.setProperty(PRIMARY, True)
        self.search_button.setDefault(True)
        self.stop_button = QPushButton("Stop")
        self.stop_button.setToolTip("End the search and take the best blend so far")
        self.stop_button.setAutoDefault(False)
        self._running, self._obstacle = False, ""
        self._lay_out()
        self.search_button.clicked.connect(self.search_requested)
        self.stop_button.clicked.connect(self.stop_requested)
        self.editor.changed.connect(self._enable)
        self.set_running(False)

    @property
    def options(self) -> Any:
        """How to search, as the dataclass."""
        return self.form.values()

    def set_running(self, running: bool) -> None:
        """Say whether a search is under way."""
        self._running = running
        self.stop_button.setEnabled(running)
        if not running:
            self.bar.setRange(0, 1)
            self.bar.setValue(0)
        self._enable()

    def set_obstacle(self, reason: str) -> None:
        """Say why nothing can be found now; empty where it can."""
        self._obstacle = reason
        self._enable()

    def set_progress(self, done: int, total: int, history: Sequence[float]) -> None:
        """Show how far a search is, and the loss of every blend that was tried."""
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(done)
        self.plot.set_losses(list(enumerate(history)), [])

    def set_facts(self, facts: Sequence[tuple[str, str]], advice: str = "") -> None:
        """Tell what was found."""
        self.facts.set_facts(facts, advice)

    def _enable(self) -> None:
        ready = not self._running and not self._obstacle and bool(self.editor.wanted)
        self.search_button.setEnabled(ready)
        self.search_button.setToolTip(self._obstacle or ("" if self.editor.wanted else HINT))

    def _lay_out(self) -> None:
        left = QVBoxLayout()
        left.setSpacing(8)
        left.addWidget(DeskLabel("Examples", strong=True))
        left.addWidget(self.editor, 1)
        right = QVBoxLayout()
        right.setSpacing(8)
        right.addWidget(DeskLabel("How to look", strong=True))
        right.addWidget(self.form)
        right.addWidget(DeskLabel("What was found", strong=True))
        right.addWidget(self.plot, 1)
        right.addWidget(self.facts)
        body = QHBoxLayout()
        body.setSpacing(20)
        body.addLayout(left, 1)
        body.addLayout(right, 1)
        close = QPushButton("Close")
        close.setAutoDefault(False)
        close.clicked.connect(self.reject)
        foot = QHBoxLayout()
        foot.setSpacing(10)
        foot.addWidget(self.bar, 1)
        for button in (self.search_button, self.stop_button, close):
            foot.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 14, 16, 12)
        layout.setSpacing(12)
        layout.addLayout(body, 1)
        layout.addLayout(foot)
        self.resize(860, 600)


def lowest_so_far(losses: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the lowest loss of all up to each one ``[n]``."""
    lowest: np.ndarray[Any, np.dtype[np.float64]] = np.minimum.accumulate(losses)
    return lowest
