"""Asks what to export, how, and where to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from studio.gui import questions
from studio.gui.options_form import OptionsForm
from studio.gui.shapes import PRIMARY
from studio.gui.targets import names_a_file, path_of, with_suffix

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from studio.contracts import Exporter


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
    """

    def __init__(
        self,
        exporters: Sequence[Exporter],
        target: Path,
        facts: Sequence[tuple[str, str]] = (),
        parent: QWidget | None = None,
        *,
        preferred: str = "",
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export")
        self.setMinimumWidth(520)
        self._exporters = exporters
        self._forms = [OptionsForm(exporter.Options) for exporter in exporters]
        self._pages = QStackedWidget()
        for form in self._forms:
            self._pages.addWidget(form)
        self.choice = QComboBox()
        self.choice.setAccessibleName("Exporter")
        self.choice.addItems([exporter.name for exporter in exporters])
        self.choice.currentIndexChanged.connect(self._show_exporter)
        self._suffix = target.suffix
        self.path_edit = QLineEdit(str(target))
        self.path_edit.setAccessibleName("Target file")
        self.path_edit.textChanged.connect(self._check)
        browse = QPushButton("Browse…")
        browse.setAutoDefault(False)
        browse.clicked.connect(self._browse)

        target_row = QHBoxLayout()
        target_row.addWidget(self.path_edit, 1)
        target_row.addWidget(browse)
        head = QFormLayout()
        for name, text in facts:
            fact = QLabel(text)
            fact.setWordWrap(True)
            head.addRow(name, fact)
        head.addRow("Export as", self.choice)
        head.addRow("To", target_row)
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.export_button = self._buttons.addButton("Export", QDialogButtonBox.ButtonRole.AcceptRole)
        self.export_button.setDefault(True)
        self.export_button.setProperty(PRIMARY, True)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addLayout(head)
        layout.addWidget(self._pages)
        layout.addWidget(self._buttons)
        first = max(self.choice.findText(preferred), 0)
        self.choice.setCurrentIndex(first)
        self._show_exporter(first)

    @property
    def exporter(self) -> Exporter:
        """The exporter that was chosen."""
        return self._exporters[self.choice.currentIndex()]

    @property
    def options(self) -> Any:
        """Its options, as its dataclass."""
        return self._forms[self.choice.currentIndex()].values()

    @property
    def target(self) -> Path:
        """The file to write, with the exporter's suffix, or the folder."""
        return with_suffix(path_of(self.path_edit.text()), self.exporter.suffix)

    def accept(self) -> None:
        """Close if the target names a file or folder, and one that is not there or may be replaced."""
        if not self.export_button.isEnabled():
            return
        if not self.target.exists() or questions.overwrite(self, self.target):
            super().accept()

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
