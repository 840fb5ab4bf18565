"""Asks what to train on and how, and tells beforehand what the model will see and what it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from studio.gui.controls import DeskLabel
from studio.gui.fact_list import FactList
from studio.gui.options_form import OptionsForm
from studio.gui.path_field import PathField
from studio.gui.shapes import PRIMARY
from studio.gui.token_preview import TokenPreview

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from studio.contracts import Optimiser, Trainer
    from studio.contracts.plugins import Extension

DATA = "Texts (*.txt *.md *.jsonl *.json);;All files (*)"


class TrainDialog(QDialog):
    """Chooses; what is chosen is read and estimated elsewhere. Its setters never emit.

    Parameters
    ----------
    trainers, optimisers
        What to choose from, at least one trainer.
    data_options
        The dataclass of how files are read.
    starts
        The adapters that training can go on from, as (key, name).
    audible
        Whether there is a blend to learn on top of.
    """

    data_changed = Signal()
    """Other files, or another way to read them."""
    run_changed = Signal()
    """Another trainer, or another value of its options."""

    def __init__(
        self,
        trainers: Sequence[Trainer],
        optimisers: Sequence[Optimiser],
        data_options: type[Any],
        starts: Sequence[tuple[str, str]],
        parent: QWidget | None = None,
        *,
        audible: bool = False,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Train an adapter")
        self._trainers, self._optimisers = trainers, optimisers
        self.data = PathField("Learn from", DATA, "text or JSON lines")
        self.validation = PathField("Validate on", DATA, "a share of the data")
        self.name_edit = QLineEdit()
        self.name_edit.setPlaceholderText("as the file")
        self.name_edit.setAccessibleName("Name of the adapter")
        self.trainer_box = _choice("Trainer", trainers)
        self.optimiser_box = _choice("Optimiser", optimisers)
        self.start_box = QComboBox()
        self.start_box.setAccessibleName("Begin with")
        self.start_box.addItem("a new adapter", "")
        for key, name in starts:
            self.start_box.addItem(name, key)
        self.beside_box = QCheckBox("Learn on top of the blend")
        self.beside_box.setToolTip("The adapters on the stack are heard as they are while the new one learns")
        self.beside_box.setEnabled(audible)
        self.folder = PathField("Keep the run in", None, "nowhere")
        self.resume_box = QCheckBox("Go on from there")
        self.resume_box.setToolTip("Continue the run that the folder holds, as if it had never stopped")
        self.resume_box.setEnabled(False)
        self.data_form = OptionsForm(data_options, columns=2)
        self._trainer_forms = [OptionsForm(one.Options, columns=2) for one in trainers]
        self._optimiser_forms = [OptionsForm(one.Options, columns=2) for one in optimisers]
        self.facts = FactList("What it takes")
        self.preview = TokenPreview()
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        # Return while the main button is disabled must close nothing
        self._buttons.button(QDialogButtonBox.StandardButton.Cancel).setAutoDefault(False)
        self.start_button = self._buttons.addButton("Train", QDialogButtonBox.ButtonRole.AcceptRole)
        self.start_button.setProperty(PRIMARY, True)
        self.start_button.setDefault(True)
        self._lay_out()
        self._connect()
        self.set_facts([], ready=False)

    @property
    def trainer(self) -> Trainer:
        """The trainer that was chosen."""
        return self._trainers[self.trainer_box.currentIndex()]

    @property
    def trainer_form(self) -> OptionsForm:
        """The form of its options."""
        return self._trainer_forms[self.trainer_box.currentIndex()]

    @property
    def options(self) -> Any:
        """Its options, as its dataclass."""
        return self.trainer_form.values()

    @property
    def optimiser(self) -> Optimiser | None:
        """The optimiser that was chosen; None where there is none to choose."""
        return self._optimisers[self.optimiser_box.currentIndex()] if self._optimisers else None

    @property
    def optimiser_options(self) -> Any:
        """Its options, as its dataclass."""
        return self._optimiser_forms[self.optimiser_box.currentIndex()].values()

    @property
    def data_options(self) -> Any:
        """How files are read."""
        return self.data_form.values()

    @property
    def start(self) -> str:
        """The key of the adapter to begin with; empty for a new one."""
        return str(self.start_box.currentData())

    @property
    def name(self) -> str:
        """What to call the adapter: as was typed, or as the file that it learns from."""
        path = self.data.path
        return self.name_edit.text().strip() or (path.stem if path else "") or "trained"

    @property
    def checkpoints(self) -> Path | None:
        """The folder to keep the run in."""
        return self.folder.path

    def set_facts(self, facts: Sequence[tuple[str, str]], advice: str = "", *, ready: bool) -> None:
        """Tell what the run takes, what to think of it, and whether it can start."""
        self.facts.set_facts(facts, advice)
        self.start_button.setEnabled(ready)
        self.start_button.setToolTip("" if ready else advice or "Choose a file to learn from")

    def accept(self) -> None:
        """Close once all is known to fit; Return in a field does no more than the button."""
        if self.start_button.isEnabled():
            super().accept()

    def _connect(self) -> None:
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        for field in (self.data, self.validation):
            field.changed.connect(self.data_changed)
        self.data_form.changed.connect(self.data_changed)
        for form in (*self._trainer_forms, *self._optimiser_forms):
            form.changed.connect(self.run_changed)
        self.trainer_box.currentIndexChanged.connect(self._trainer_pages.setCurrentIndex)
        self.optimiser_box.currentIndexChanged.connect(self._optimiser_pages.setCurrentIndex)
        for box in (self.trainer_box, self.optimiser_box, self.start_box):
            box.currentIndexChanged.connect(lambda _: self.run_changed.emit())
        self.beside_box.toggled.connect(lambda _: self.run_changed.emit())
        self.folder.changed.connect(lambda: self.resume_box.setEnabled(self.folder.path is not None))

    def _lay_out(self) -> None:
        files = _form(
            ("Learn from", self.data),
            ("Validate on", self.validation),
            ("Name", self.name_edit),
            ("Trainer", self.trainer_box),
            ("Optimiser", self.optimiser_box),
            ("Begin with", self.start_box),
            ("", self.beside_box),
            ("Keep the run in", self.folder),
            ("", self.resume_box),
        )
        left = QVBoxLayout()
        left.setSpacing(10)
        left.addLayout(files)
        left.addSpacing(4)
        left.addWidget(DeskLabel("What it takes", strong=True))
        left.addWidget(self.facts)
        left.addStretch(1)
        self._trainer_pages = _pages(self._trainer_forms)
        self._optimiser_pages = _pages(self._optimiser_forms)
        sheet = QWidget()
        forms = QVBoxLayout(sheet)
        forms.setContentsMargins(0, 0, 10, 0)
        forms.setSpacing(8)
        for title, form in (
            ("The texts", self.data_form),
            ("Training", self._trainer_pages),
            ("The optimiser", self._optimiser_pages),
        ):
            forms.addWidget(DeskLabel(title, strong=True))
            forms.addWidget(form)
            forms.addSpacing(6)
        forms.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(sheet)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # its fields take the keys
        right = QVBoxLayout()
        right.setSpacing(8)
        right.addWidget(scroll, 5)
        right.addWidget(DeskLabel("What the model will see", strong=True))
        right.addWidget(self.preview, 3)
        body = QHBoxLayout()
        body.setSpacing(20)
        body.addLayout(left, 4)
        body.addLayout(right, 6)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 14, 16, 12)
        layout.setSpacing(12)
        layout.addLayout(body, 1)
        layout.addWidget(self._buttons)
        self.resize(960, 620)


def _choice(name: str, extensions: Sequence[Extension]) -> QComboBox:
    box = QComboBox()
    box.setAccessibleName(name)
    box.addItems([one.name for one in extensions])
    box.setEnabled(bool(extensions))
    return box


def _form(*rows: tuple[str, QWidget]) -> QFormLayout:
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    for name, widget in rows:
        form.addRow(name, widget)
    return form


def _pages(forms: Sequence[OptionsForm]) -> QStackedWidget:
    pages = QStackedWidget()
    for form in forms:
        pages.addWidget(form)
    return pages
