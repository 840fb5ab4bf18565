"""Asks for the options of a loader before it reads a file."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QVBoxLayout, QWidget

from studio.gui.options_form import OptionsForm

if TYPE_CHECKING:
    from pathlib import Path

    from studio.contracts import AdapterLoader


class OptionsDialog(QDialog):
    """Shows the form of a loader's options for one file."""

    def __init__(self, loader: AdapterLoader, path: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Add adapter with options")
        self.setMinimumWidth(380)
        self._loader = loader
        self.form = OptionsForm(loader.Options)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        add = buttons.addButton("Add", QDialogButtonBox.ButtonRole.AcceptRole)
        add.setDefault(True)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setSpacing(14)
        layout.addWidget(QLabel(f"{path.name}, read by “{loader.name}”"))
        layout.addWidget(self.form)
        layout.addWidget(buttons)

    @property
    def values(self) -> dict[str, object]:
        """The options that are not at their default, by name."""
        chosen, defaults = self.form.values(), self._loader.Options()
        names = [field.name for field in fields(chosen)]
        return {
            name: getattr(chosen, name) for name in names if getattr(chosen, name) != getattr(defaults, name)
        }
