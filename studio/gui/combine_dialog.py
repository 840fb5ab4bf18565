"""Asks how to make one adapter of the blend: a method, its options, and the rank to cut it to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QDialog,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from studio.gui.controls import DeskLabel, name_control
from studio.gui.error_curve import ErrorCurve
from studio.gui.fact_list import FactList
from studio.gui.format_list import FormatList
from studio.gui.options_form import OptionsForm
from studio.gui.shapes import PRIMARY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import CombineMethod
    from studio.lora.algebra.singular import Doubles

MOST_RANK = 4096


class CombineDialog(QDialog):
    """Chooses; what is chosen is computed elsewhere. Its setters never emit.

    Parameters
    ----------
    methods
        What to choose from, at least one.
    facts
        What is known of the blend, as (name, text).
    preferred
        The name of the method that is chosen at first, where there is one of this name.
    """

    method_changed = Signal()
    """Another method, or another value of its options."""
    limit_changed = Signal()
    """Another rank or energy to cut to."""
    add_requested = Signal()
    """Put the result on the stack."""
    export_requested = Signal()
    """Write the result to a file."""

    def __init__(
        self,
        methods: Sequence[CombineMethod],
        facts: Sequence[tuple[str, str]],
        parent: QWidget | None = None,
        *,
        preferred: str = "",
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Combine")
        self._methods = methods
        self._forms = [OptionsForm(method.Options) for method in methods]
        self._pages = QStackedWidget()
        for form in self._forms:
            self._pages.addWidget(form)
            form.changed.connect(self.method_changed)
        self.choice = FormatList("Method")
        self.choice.set_entries([(one.name, getattr(one, "summary", "")) for one in methods])
        self.facts = FactList("The blend")
        self.facts.set_facts(facts)
        self.curve = ErrorCurve()
        self.rank_box = QSpinBox()
        self.rank_box.setRange(0, MOST_RANK)
        self.rank_box.setSpecialValueText("whole")
        name_control(self.rank_box, "Cut to rank")
        self.energy_box = QDoubleSpinBox()
        self.energy_box.setRange(0.1, 100.0)
        self.energy_box.setValue(100.0)
        self.energy_box.setDecimals(2)
        self.energy_box.setSingleStep(0.5)
        self.energy_box.setSuffix(" %")
        self.energy_box.setToolTip(
            "Cut each module to the rank that keeps this share of the squared norm; the smaller rank counts"
        )
        name_control(self.energy_box, "Energy to keep")
        self.outcome = FactList("The result")
        self.add_button = QPushButton("Add to the stack")
        self.export_button = QPushButton("Export…")
        self._lay_out()
        names = [method.name for method in methods]
        self.choice.setCurrentRow(names.index(preferred) if preferred in names else 0)
        self._pages.setCurrentIndex(self.choice.currentRow())
        self.choice.currentRowChanged.connect(self._show_method)
        self.curve.rank_chosen.connect(self.rank_box.setValue)
        self.rank_box.valueChanged.connect(self._take_limit)
        self.energy_box.valueChanged.connect(self._take_limit)
        self.add_button.clicked.connect(self.add_requested)
        self.export_button.clicked.connect(self.export_requested)

    @property
    def method(self) -> CombineMethod:
        """The method that was chosen."""
        return self._methods[self.choice.currentRow()]

    @property
    def options(self) -> Any:
        """Its options, as its dataclass."""
        return self._forms[self.choice.currentRow()].values()

    @property
    def rank(self) -> int:
        """The rank to cut to; 0 leaves it whole."""
        return self.rank_box.value()

    @property
    def energy(self) -> float:
        """The share of the squared norm to keep; 1 is all of it."""
        return self.energy_box.value() / 100

    def set_curve(self, curve: Doubles) -> None:
        """Show the error over the rank; empty while it is not known."""
        self.curve.set_curve(curve)
        self.curve.set_rank(self.rank)

    def set_result(self, facts: Sequence[tuple[str, str]], advice: str = "", *, ready: bool) -> None:
        """Tell what comes of it, and whether an adapter can be made of it."""
        self.outcome.set_facts(facts, advice)
        self.add_button.setEnabled(ready)

    def _lay_out(self) -> None:
        limits = QHBoxLayout()
        limits.setSpacing(10)
        for text, box in (("Cut to rank", self.rank_box), ("Keep energy", self.energy_box)):
            label = QLabel(text)
            label.setBuddy(box)
            limits.addWidget(label)
            limits.addWidget(box)
            box.setMinimumWidth(96)
        limits.addStretch(1)
        right = QVBoxLayout()
        right.setSpacing(8)
        right.addWidget(self._pages)
        right.addWidget(DeskLabel("What a cut leaves out", strong=True))
        right.addWidget(self.curve, 1)
        right.addLayout(limits)
        right.addWidget(self.outcome)
        body = QHBoxLayout()
        body.setSpacing(16)
        self.choice.setFixedWidth(300)
        body.addWidget(self.choice)
        body.addLayout(right, 1)
        close = QPushButton("Close")
        close.clicked.connect(self.reject)
        self.add_button.setProperty(PRIMARY, True)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        for button in (self.add_button, self.export_button, close):
            button.setAutoDefault(False)
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 14, 16, 12)
        layout.setSpacing(12)
        layout.addWidget(self.facts)
        layout.addLayout(body, 1)
        layout.addLayout(buttons)
        self.resize(860, 620)

    def _show_method(self, index: int) -> None:
        self._pages.setCurrentIndex(index)
        self.method_changed.emit()

    def _take_limit(self) -> None:
        self.curve.set_rank(self.rank)
        self.limit_changed.emit()
