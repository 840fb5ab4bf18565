"""The export dialog: a target that names a file, and no file replaced unasked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from PySide6.QtWidgets import QDialog, QLabel

from studio.gui import questions
from studio.gui.export_dialog import ExportDialog

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from studio.contracts import ExportRequest, Work


class NullExporter:
    """What the dialog needs to know of an exporter."""

    @dataclass(frozen=True)
    class Options:
        pass

    def __init__(self, name: str, suffix: str) -> None:
        self.name, self.suffix = name, suffix

    def export(self, request: ExportRequest, path: Path, options: Any) -> Work:
        raise NotImplementedError


@pytest.fixture
def dialog(qtbot: QtBot, tmp_path: Path) -> ExportDialog:
    exporters = [NullExporter("stacked", ".gguf"), NullExporter("folder of factors", ".safetensors")]
    dialog = ExportDialog(exporters, tmp_path / "blend.gguf", [("Blend", "fortune × 0.80")])
    qtbot.addWidget(dialog)
    return dialog


def test_it_tells_what_is_exported(dialog: ExportDialog) -> None:
    assert "fortune × 0.80" in [label.text() for label in dialog.findChildren(QLabel)]


@pytest.mark.parametrize("typed", ["", ".", "..", "/", "  "])
def test_what_names_no_file_cannot_be_exported_to(dialog: ExportDialog, typed: str) -> None:
    dialog.path_edit.setText(typed)
    assert not dialog.export_button.isEnabled()
    dialog.accept()
    assert dialog.result() != QDialog.DialogCode.Accepted
    dialog.path_edit.setText("blend")
    assert dialog.export_button.isEnabled()


def test_the_suffix_follows_the_exporter(dialog: ExportDialog, tmp_path: Path) -> None:
    dialog.choice.setCurrentRow(1)
    assert dialog.target == tmp_path / "blend.safetensors"
    dialog.path_edit.setText(str(tmp_path / "blend v1.5"))
    dialog.choice.setCurrentRow(0)
    assert dialog.target == tmp_path / "blend v1.5.gguf"


def test_an_exporter_without_a_suffix_writes_a_folder(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporters = [NullExporter("stacked", ".gguf"), NullExporter("PEFT directory", "")]
    dialog = ExportDialog(exporters, tmp_path / "blend.gguf", preferred="PEFT directory")
    qtbot.addWidget(dialog)
    assert dialog.exporter is exporters[1]
    assert dialog.target == tmp_path / "blend"
    assert dialog.export_button.isEnabled()
    monkeypatch.setattr(questions, "overwrite", lambda parent, path: True)
    (tmp_path / "blend").mkdir()
    dialog.path_edit.setText(str(tmp_path / "blend"))
    assert dialog.export_button.isEnabled()
    for typed in ("", ".", ".."):
        dialog.path_edit.setText(typed)
        assert not dialog.export_button.isEnabled()
    dialog.path_edit.setText(str(tmp_path / "blend"))
    dialog.choice.setCurrentRow(0)
    assert dialog.target == tmp_path / "blend.gguf"
    dialog.choice.setCurrentRow(1)
    dialog.accept()
    assert dialog.result() == QDialog.DialogCode.Accepted
    assert dialog.target == tmp_path / "blend"


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_is_replaced_only_when_the_user_says_so(
    dialog: ExportDialog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    asked: list[Path] = []

    def overwrite(parent: object, path: Path) -> bool:
        asked.append(path)
        return replace

    monkeypatch.setattr(questions, "overwrite", overwrite)
    (tmp_path / "mine.gguf").touch()
    dialog.path_edit.setText(str(tmp_path / "mine"))  # the file is there under its whole name
    dialog.accept()
    assert asked == [tmp_path / "mine.gguf"]
    assert (dialog.result() == QDialog.DialogCode.Accepted) == replace
