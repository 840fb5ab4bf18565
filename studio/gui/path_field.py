"""A path to type or to choose, with a button for the latter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget

from studio.gui.targets import path_of

if TYPE_CHECKING:
    from pathlib import Path


class PathField(QWidget):
    """Asks for a file that is there, or for a folder.

    Parameters
    ----------
    name
        What it is the path of, for screen readers and the title of the dialog that chooses.
    kinds
        The files to offer, as Qt's dialogs take them; None asks for a folder.
    empty
        What it says while it is empty.
    """

    changed = Signal()
    """The user named another path."""

    def __init__(self, name: str, kinds: str | None, empty: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = name
        self._kinds = kinds
        self.edit = QLineEdit()
        self.edit.setAccessibleName(name)
        self.edit.setPlaceholderText(empty)
        self.edit.setClearButtonEnabled(True)
        self.button = QPushButton("Browse…")
        self.button.setAccessibleName(f"Browse: {name}")
        self.button.setAutoDefault(False)
        self.setFocusProxy(self.edit)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.edit, 1)
        layout.addWidget(self.button)
        self.edit.textChanged.connect(lambda _: self.changed.emit())
        self.button.clicked.connect(self._browse)

    @property
    def path(self) -> Path | None:
        """What was named; None where nothing was."""
        return path_of(self.edit.text()) if self.edit.text().strip() else None

    def _browse(self) -> None:
        start = self.edit.text()
        if self._kinds is None:
            chosen = QFileDialog.getExistingDirectory(self, self._name, start)
        else:
            chosen, _ = QFileDialog.getOpenFileName(self, self._name, start, self._kinds)
        if chosen:
            self.edit.setText(chosen)
