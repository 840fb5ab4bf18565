"""A form rendered from a plugin's `Options` dataclass: one editor a field, as its default asks for."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Signal, SignalInstance
from PySide6.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QLineEdit, QSpinBox, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LARGEST = 2**31 - 1


class OptionsForm(QWidget):
    """Edits the fields of a frozen dataclass whose metadata may hold ``help``, ``choices`` and ``range``."""

    changed = Signal()
    """The user changed a value."""

    def __init__(self, options: type[Any], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._options = options
        self._read: dict[str, Callable[[], Any]] = {}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        defaults = options()
        for field in fields(options):
            default = getattr(defaults, field.name)
            editor, self._read[field.name], changed = _editor(default, field.metadata)
            changed.connect(lambda *_: self.changed.emit())
            label = field.name.strip("_").replace("_", " ").capitalize()
            editor.setObjectName(field.name)
            editor.setAccessibleName(label)
            editor.setToolTip(str(field.metadata.get("help", "")))
            layout.addRow(label, editor)

    def values(self) -> Any:
        """Return an instance of the dataclass with what the form shows."""
        return self._options(**{name: read() for name, read in self._read.items()})


def _editor(default: Any, metadata: Mapping[Any, Any]) -> tuple[QWidget, Callable[[], Any], SignalInstance]:
    """Make the editor of one field, the function that reads it, and its signal of a change."""
    if "choices" in metadata:
        choices = list(metadata["choices"])
        box = QComboBox()
        box.addItems([str(choice) for choice in choices])
        box.setCurrentIndex(choices.index(default))
        return box, lambda: choices[box.currentIndex()], box.currentIndexChanged
    kind = type(default)
    if kind is bool:
        check = QCheckBox()
        check.setChecked(default)
        return check, check.isChecked, check.toggled
    low, high = metadata.get("range", (-_LARGEST, _LARGEST))
    if kind is int:
        whole = QSpinBox()
        whole.setRange(low, high)
        whole.setValue(default)
        return whole, whole.value, whole.valueChanged
    if kind is float:
        number = QDoubleSpinBox()
        number.setRange(low, high)
        number.setDecimals(4)
        number.setValue(default)
        return number, number.value, number.valueChanged
    if kind is str:
        line = QLineEdit(default)
        return line, line.text, line.textChanged
    raise TypeError(f"a form has no editor for an option of the type {kind.__name__}")
