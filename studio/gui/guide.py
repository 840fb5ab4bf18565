"""The Help menu: what this is, and the user guide, which comes with the studio and needs no browser."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QMessageBox, QTextBrowser, QVBoxLayout

from studio.resources import assets_folder

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget


def show_about(parent: QWidget) -> None:
    """Say what this program is."""
    QMessageBox.about(
        parent,
        "About LoRA Studio",
        f"<b>LoRA Studio {version('lora-studio')}</b><p>A mixing desk for LoRA adapters: "
        "blend live, see where they act, take the blend home as GGUF.</p><p>Apache License 2.0</p>",
    )


def show_guide(parent: QWidget) -> None:
    """Open the user guide beside the desk."""
    dialog = QDialog(parent)
    dialog.setWindowTitle("User guide")
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.resize(680, 720)
    browser = QTextBrowser()
    browser.setOpenExternalLinks(True)
    browser.setAccessibleName("User guide")
    browser.setMarkdown((assets_folder() / "guide.md").read_text(encoding="utf-8"))
    layout = QVBoxLayout(dialog)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(browser)
    dialog.show()
