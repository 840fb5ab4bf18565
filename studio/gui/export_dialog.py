"""Asks what to export, how, and where to, and tells beforehand what that will be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from studio.gui import questions
from studio.gui.controls import DeskLabel, name_control
from studio.gui.fact_list import FactList
from studio.gui.format_list import FormatList
from studio.gui.options_form import OptionsForm
from studio.gui.shapes import PRIMARY
from studio.gui.targets import names_a_file, path_of, with_suffix

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from studio.contracts import Exporter

MOST_RANK = 4096


class ExportDialog(QDialog):
    """Choose an exporter, its options, and the target file; a file that is there is asked about.

    Parameters
    ----------
    exporters
        What to choose from, at least one.
    target
        The path to suggest; its suffix follows the exporter.
    facts
        What is known of the blend, as (name, text).
    preferred
        The name of the exporter that is chosen at first, where there is one of this name.
    rank
        The rank to cut to at first; 0 leaves all as it is.
    """

    changed = Signal()
    """What would be exported, how or where to, is another."""
    command_requested = Signal()
    """Copy the line that does the same without a screen."""

    def __init__(
        self,
        exporters: Sequence[Exporter],
        target: Path,
        facts: Sequence[tuple[str, str]] = (),
        parent: QWidget | None = None,
        *,
        preferred: str = "",
        rank: int = 0,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export")
        self._exporters = exporters
        self._forms = [OptionsForm(exporter.Options) for exporter in exporters]
        self._pages = QStackedWidget()
        for form in self._forms:
            page = QWidget()  # keeps a form of few lines at the top
            box = QVBoxLayout(page)
            box.setContentsMargins(0, 0, 0, 0)
            box.addWidget(form)
            box.addStretch(1)
            self._pages.addWidget(page)
            form.changed.connect(self.changed)
        self.choice = FormatList("Format")
        self.choice.set_entries([(one.name, getattr(one, "summary", "")) for one in exporters])
        self._suffix = target.suffix
        self.path_edit = QLineEdit(str(target))
        self.path_edit.setAccessibleName("Target file")
        self.rank_box = QSpinBox()
        self.rank_box.setRange(0, MOST_RANK)
        self.rank_box.setSpecialValueText("whole")
        self.rank_box.setValue(rank)
        self.rank_box.setToolTip("Cut every module to its best approximation of this rank")
        name_control(self.rank_box, "Cut to rank")
        self.verify_box = QCheckBox("Verify after export")
        self.verify_box.setToolTip("Compare the file with the live blend on the prompt")
        self.preview = FactList("What it will be")
        self.facts = FactList("The blend")
        self.facts.set_facts(facts)
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.command_button = QPushButton("Copy as command")
        self.command_button.setToolTip("The line of lora-studio that does the same without a screen")
        self.export_button = self._buttons.addButton("Export", QDialogButtonBox.ButtonRole.AcceptRole)
        self.export_button.setDefault(True)
        self.export_button.setProperty(PRIMARY, True)
        self._lay_out()
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        self.command_button.clicked.connect(self.command_requested)
        self.path_edit.textChanged.connect(self._check)
        self.rank_box.valueChanged.connect(lambda _: self.changed.emit())
        names = [exporter.name for exporter in exporters]
        self.choice.currentRowChanged.connect(self._show_exporter)
        self.choice.setCurrentRow(names.index(preferred) if preferred in names else 0)

    @property
    def exporter(self) -> Exporter:
        """The exporter that was chosen."""
        return self._exporters[self.choice.currentRow()]

    @property
    def options(self) -> Any:
        """Its options, as its dataclass."""
        return self._forms[self.choice.currentRow()].values()

    @property
    def target(self) -> Path:
        """The file to write, with the exporter's suffix, or the folder."""
        return with_suffix(path_of(self.path_edit.text()), self.exporter.suffix)

    @property
    def rank(self) -> int:
        """The rank to cut to; 0 leaves all as it is."""
        return self.rank_box.value()

    def set_preview(self, facts: Sequence[tuple[str, str]], advice: str = "") -> None:
        """Tell what the export will be, as (name, text), and what to think of it."""
        self.preview.set_facts(facts, advice)

    def accept(self) -> None:
        """Close if the target names a file or folder, and one that is not there or may be replaced."""
        if not self.export_button.isEnabled():
            return
        if not self.target.exists() or questions.overwrite(self, self.target):
            super().accept()

    def _lay_out(self) -> None:
        browse = QPushButton("Browse…")
        browse.setAutoDefault(False)
        browse.clicked.connect(self._browse)
        self.command_button.setAutoDefault(False)
        target_row = QHBoxLayout()
        target_row.addWidget(self.path_edit, 1)
        target_row.addWidget(browse)
        settings = QFormLayout()
        settings.setContentsMargins(0, 0, 0, 0)
        settings.addRow("Cut to rank", self.rank_box)
        settings.addRow("To", target_row)
        settings.addRow("", self.verify_box)
        right = QVBoxLayout()
        right.setSpacing(10)
        right.addWidget(self._pages)
        right.addLayout(settings)
        right.addStretch(1)
        right.addWidget(DeskLabel("What it will be", strong=True))
        right.addWidget(self.preview)
        body = QHBoxLayout()
        body.setSpacing(16)
        self.choice.setFixedWidth(300)
        body.addWidget(self.choice)
        body.addLayout(right, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 14, 16, 12)
        layout.setSpacing(12)
        layout.addWidget(self.facts)
        layout.addLayout(body, 1)
        foot = QHBoxLayout()
        foot.addWidget(self.command_button)
        foot.addWidget(self._buttons, 1)
        layout.addLayout(foot)
        self.resize(820, 560)

    def _show_exporter(self, index: int) -> None:
        self._pages.setCurrentIndex(index)
        old, self._suffix = self._suffix, self.exporter.suffix
        text = self.path_edit.text()
        if text.endswith(old):
            self.path_edit.setText(text.removesuffix(old) + self._suffix)
        self._check()

    def _check(self) -> None:
        is_folder = not self.exporter.suffix and self.target.name not in ("", "..") and self.target.is_dir()
        self.export_button.setEnabled(is_folder or names_a_file(self.target))
        self.changed.emit()

    def _browse(self) -> None:
        suffix = self.exporter.suffix
        path, _ = QFileDialog.getSaveFileName(
            self,
            "Export to",
            self.path_edit.text(),
            f"{self.exporter.name} (*{suffix});;All files (*)",
            options=QFileDialog.Option.DontConfirmOverwrite,  # asked for the whole name, with its suffix
        )
        if path:
            self.path_edit.setText(path)
