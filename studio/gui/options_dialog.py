"""Asks for the options of a loader before it reads a file."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QVBoxLayout, QWidget

from studio.gui.controls import set_text_colour
from studio.gui.options_form import OptionsForm
from studio.gui.theme import current_theme

if TYPE_CHECKING:
    from pathlib import Path

    from studio.contracts import AdapterLoader
    from studio.errors import StudioError


class OptionsDialog(QDialog):
    """Shows the form of a loader's options for one file.

    Parameters
    ----------
    loader, path
        Whose options they are, and what it reads.
    error
        What was wrong without them; the option that it names has the focus.
    """

    def __init__(
        self,
        loader: AdapterLoader,
        path: Path,
        parent: QWidget | None = None,
        *,
        error: StudioError | None = None,
    ) -> None:
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
        if error is not None:
            layout.addWidget(self._reason(error))
        layout.addWidget(self.form)
        layout.addWidget(buttons)

    def _reason(self, error: StudioError) -> QLabel:
        reason = QLabel(f"{error.message[:1].upper()}{error.message[1:]}.")
        reason.setWordWrap(True)
        set_text_colour(reason, current_theme().warning)
        editor = self.form.findChild(QWidget, error.where or "")
        if editor is not None:
            editor.setFocus()
            self.setAccessibleDescription(reason.text())
        return reason

    @property
    def values(self) -> dict[str, object]:
        """The options that are not at their default, by name."""
        chosen, defaults = self.form.values(), self._loader.Options()
        names = [field.name for field in fields(chosen)]
        return {
            name: getattr(chosen, name) for name in names if getattr(chosen, name) != getattr(defaults, name)
        }
