"""A form rendered from a plugin's `Options` dataclass: one editor a field, as its default asks for."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, QObject, QSize, Qt, Signal, SignalInstance
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QSpinBox,
    QWidget,
)

from studio.gui.controls import name_control

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LARGEST = 2**31 - 1
_DECIMALS = 9


class OptionsForm(QWidget):
    """Edits the fields of a frozen dataclass whose metadata may hold ``help``, ``choices`` and ``range``.

    Parameters
    ----------
    options
        The dataclass.
    columns
        How many columns of fields stand side by side.
    """

    changed = Signal()
    """The user changed a value."""

    def __init__(self, options: type[Any], parent: QWidget | None = None, *, columns: int = 1) -> None:
        super().__init__(parent)
        self._options = options
        self._read: dict[str, Callable[[], Any]] = {}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(22)
        forms = [QFormLayout() for _ in range(columns)]
        for form in forms:
            form.setSpacing(8)  # else it takes that of the columns
            layout.addLayout(form, 1)
        defaults, rows = options(), -(-len(fields(options)) // columns)
        for number, field in enumerate(fields(options)):
            default = getattr(defaults, field.name)
            editor, self._read[field.name], changed = _editor(default, field.metadata)
            changed.connect(lambda *_: self.changed.emit())
            label = field.name.strip("_").replace("_", " ").capitalize()
            editor.setObjectName(field.name)
            editor.setAccessibleName(label)
            if isinstance(editor, QSpinBox | QDoubleSpinBox):
                name_control(editor, label)
            editor.setToolTip(str(field.metadata.get("help", "")))
            editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            editor.installEventFilter(self)
            forms[number // rows].addRow(label, editor)

    def values(self) -> Any:
        """Return an instance of the dataclass with what the form shows."""
        return self._options(**{name: read() for name, read in self._read.items()})

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let the wheel scroll past an editor: it changes only the one that has the focus."""
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)


class DecimalBox(QDoubleSpinBox):
    """Any decimal number, written with as many digits as it has; its steps are of its own order."""

    def __init__(self, low: float, high: float, value: float) -> None:
        super().__init__()
        self.setDecimals(_DECIMALS)
        self.setRange(low, high)
        self.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        self.setValue(value)

    def textFromValue(self, value: float) -> str:
        """Leave out the zeros at the end."""
        text = f"{value:.{_DECIMALS}f}".rstrip("0")
        return text + "0" if text.endswith(".") else text

    def sizeHint(self) -> QSize:
        """Ask for the room of a usual number, not of the longest."""
        return QSize(self.fontMetrics().horizontalAdvance("00000.0000") + 30, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        """Take no less."""
        return self.sizeHint()


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
        number = DecimalBox(low, high, default)
        return number, number.value, number.valueChanged
    if kind is str:
        line = QLineEdit(default)
        return line, line.text, line.textChanged
    raise TypeError(f"a form has no editor for an option of the type {kind.__name__}")
