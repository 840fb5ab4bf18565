"""Asks what the blend should write and how to look for it, and tells what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from studio.gui.controls import DeskLabel
from studio.gui.fact_list import FactList
from studio.gui.loss_plot import LossPlot
from studio.gui.options_form import OptionsForm
from studio.gui.wanted_editor import WantedEditor
from studio.gui.work_dialog import WorkDialog

if TYPE_CHECKING:
    from collections.abc import Sequence

HINT = "Write what the blend should say. The sliders follow, and undo brings them back."


class SearchDialog(WorkDialog):
    """A window beside the desk, so that the sliders stay in sight. Its setters never emit.

    Parameters
    ----------
    options
        The dataclass of how to search.
    """

    def __init__(self, options: type[Any], parent: QWidget | None = None) -> None:
        super().__init__("Find the blend", "Find", "the search", parent)
        self.editor = WantedEditor()
        self.form = OptionsForm(options)
        self.plot = LossPlot(lowest_so_far, "blends tried")
        self.plot.setAccessibleName("Loss of every blend that was tried")
        self.facts = FactList("What was found")
        self.stop_button.setToolTip("End the search and take the best blend so far")
        self._lay_out()
        self.editor.changed.connect(self.refresh)
        self.set_running(False)

    @property
    def options(self) -> Any:
        """How to search, as the dataclass."""
        return self.form.values()

    @property
    def reason(self) -> str:
        """Why nothing can be found now: an example is needed as well."""
        return self.obstacle or ("" if self.editor.wanted else HINT)

    def set_progress(self, done: int, total: int, history: Sequence[float]) -> None:
        """Show how far a search is, and the loss of every blend that was tried."""
        self.set_done(done, total)
        self.plot.set_losses(list(enumerate(history)), [])

    def set_facts(self, facts: Sequence[tuple[str, str]], advice: str = "") -> None:
        """Tell what was found."""
        self.facts.set_facts(facts, advice)

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
        self.lay_out(body)
        self.resize(860, 600)


def lowest_so_far(losses: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the lowest loss of all up to each one ``[n]``."""
    lowest: np.ndarray[Any, np.dtype[np.float64]] = np.minimum.accumulate(losses)
    return lowest
