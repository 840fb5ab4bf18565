"""Asks what to export, how, and where to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from studio.gui.options_form import OptionsForm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import Exporter


class ExportDialog(QDialog):
    """Choose an exporter, its options, and the target file."""

    def __init__(self, exporters: Sequence[Exporter], target: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export")
        self.setMinimumWidth(520)
        self._exporters = exporters
        self._forms = [OptionsForm(exporter.Options) for exporter in exporters]
        self._pages = QStackedWidget()
        for form in self._forms:
            self._pages.addWidget(form)
        self._choice = QComboBox()
        self._choice.setAccessibleName("Exporter")
        self._choice.addItems([exporter.name for exporter in exporters])
        self._choice.currentIndexChanged.connect(self._show_exporter)
        self.path_edit = QLineEdit(str(target))
        self.path_edit.setAccessibleName("Target file")
        self.path_edit.textChanged.connect(self._check)
        browse = QPushButton("Browse…")
        browse.clicked.connect(self._browse)

        target_row = QHBoxLayout()
        target_row.addWidget(self.path_edit, 1)
        target_row.addWidget(browse)
        head = QFormLayout()
        head.addRow("Export as", self._choice)
        head.addRow("To", target_row)
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self._export = self._buttons.addButton("Export", QDialogButtonBox.ButtonRole.AcceptRole)
        self._export.setDefault(True)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addLayout(head)
        layout.addWidget(self._pages)
        layout.addWidget(self._buttons)
        self._show_exporter(0)

    @property
    def exporter(self) -> Exporter:
        """The exporter that was chosen."""
        return self._exporters[self._choice.currentIndex()]

    @property
    def options(self) -> Any:
        """Its options, as its dataclass."""
        return self._forms[self._choice.currentIndex()].values()

    @property
    def target(self) -> Path:
        """The file to write, with the exporter's suffix if none was typed."""
        path = Path(self.path_edit.text().strip()).expanduser()
        return path if path.suffix else path.with_suffix(self.exporter.suffix)

    def _show_exporter(self, index: int) -> None:
        self._pages.setCurrentIndex(index)
        self.path_edit.setText(str(Path(self.path_edit.text()).with_suffix(self.exporter.suffix)))

    def _check(self, text: str) -> None:
        self._export.setEnabled(bool(text.strip()))

    def _browse(self) -> None:
        suffix = self.exporter.suffix
        path, _ = QFileDialog.getSaveFileName(
            self, "Export to", self.path_edit.text(), f"{self.exporter.name} (*{suffix});;All files (*)"
        )
        if path:
            self.path_edit.setText(path)
