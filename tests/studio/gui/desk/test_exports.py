"""The export dialog on the desk: what it foretells is what is written, verified and copied as a command."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox

from studio.cli.main import main
from studio.gui.combine_dialog import CombineDialog
from studio.gui.export_dialog import ExportDialog
from studio.gui.verification_dialog import VerificationDialog
from studio.lora.gains import preset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from studio.gui.desk import Desk


@pytest.fixture
def dialog(desk: Desk, qtbot: QtBot, tmp_path: Path) -> ExportDialog:
    """The export dialog, with its forecast."""
    desk.window.commands.export.trigger()
    dialog = desk.window.findChild(ExportDialog)
    assert dialog is not None
    dialog.path_edit.setText(str(tmp_path / "blend.gguf"))
    qtbot.waitUntil(lambda: fact(dialog, "Error") == "none: it is exact")
    return dialog


def test_what_is_foretold_is_what_is_written(
    desk: Desk, qtbot: QtBot, dialog: ExportDialog, tmp_path: Path
) -> None:
    assert fact(dialog, "Rank") == "4 in each of 4 modules"
    assert "about 5 kB; " in fact(dialog, "Size") and "free on the disk" in fact(dialog, "Size")
    type_box = dialog._pages.currentWidget().findChild(QComboBox, "type")
    assert type_box is not None
    type_box.setCurrentText("F16")
    qtbot.waitUntil(lambda: "of the blend's norm" in fact(dialog, "Error"))
    dialog.rank_box.setValue(1)
    qtbot.waitUntil(lambda: "A higher rank keeps more" in dialog.preview.advice.text())
    assert fact(dialog, "Rank") == "1 in each of 4 modules"
    with qtbot.waitSignal(desk.notices.shown):
        dialog.accept()
    desk.models.add_adapter(tmp_path / "blend.gguf")
    qtbot.waitUntil(lambda: "blend" in desk.session.reports or len(desk.session.reports) == 2)
    report = list(desk.session.reports.values())[-1]
    assert report.ranks == (1,) and report.modules == 4


def test_an_export_is_verified_on_the_prompt(desk: Desk, qtbot: QtBot, dialog: ExportDialog) -> None:
    dialog.verify_box.setChecked(True)
    dialog.accept()
    qtbot.waitUntil(lambda: desk.window.findChild(VerificationDialog) is not None)
    found = desk.window.findChild(VerificationDialog)
    assert found is not None and found.verdict.text() == "✓  The file answers as the live blend does."
    facts = dict(found.facts.facts)
    assert facts["Likeliest token"] == "the same at 100.0% of 8 positions"
    assert found.heatmap_button.isHidden()
    found.close()


def test_what_is_not_read_back_is_not_verified(desk: Desk, qtbot: QtBot, dialog: ExportDialog) -> None:
    names = [exporter.name for exporter in dialog._exporters]
    dialog.verify_box.setChecked(True)
    dialog.choice.setCurrentRow(names.index("merged model (Hugging Face)"))
    assert not dialog.verify_box.isEnabled() and not dialog.verify_box.isChecked()
    dialog.choice.setCurrentRow(names.index("PEFT directory"))
    assert dialog.verify_box.isEnabled()
    dialog.reject()


def test_a_merged_model_shows_on_the_heatmap_what_it_keeps(
    desk: Desk, qtbot: QtBot, dialog: ExportDialog
) -> None:
    names = [exporter.name for exporter in dialog._exporters]
    dialog.choice.setCurrentRow(names.index("merged base (GGUF)"))
    type_box = dialog._pages.currentWidget().findChild(QComboBox, "type")
    assert type_box is not None
    type_box.setCurrentText("Q8_0")
    qtbot.waitUntil(lambda: fact(dialog, "Rank") == "a delta of rank 4 in each of 4 modules")
    dialog.verify_box.setChecked(True)
    dialog.accept()
    qtbot.waitUntil(lambda: desk.window.findChild(VerificationDialog) is not None)
    found = desk.window.findChild(VerificationDialog)
    assert found is not None and "Delta kept" in dict(found.facts.facts)
    heatmap = desk.window.heatmap
    assert heatmap.mode_box.findText("Delta kept · blend.gguf") > 0  # offered, not forced
    assert heatmap.mode_box.currentText() == "Blend ‖ΔW‖"
    found.heatmap_button.click()
    assert heatmap.mode_box.currentText() == "Delta kept · blend.gguf"
    shown = [(heatmap._targets[row], int(layer)) for row, layer in np.argwhere(~heatmap._absent)]
    assert shown == [("attn_q", 0), ("attn_q", 1), ("attn_v", 0), ("attn_v", 1)]
    np.testing.assert_allclose(heatmap._values[~heatmap._absent], 100, atol=2)
    found.close()


def test_the_copied_command_does_what_the_desk_does(
    desk: Desk,
    qtbot: QtBot,
    write_adapter: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack = desk.session.stack
    desk.models.add_adapter(write_adapter("it's second.gguf", seed=2))
    desk.models.add_adapter(write_adapter("muted.gguf", seed=3))
    qtbot.waitUntil(lambda: len(stack.by_key) == 3)
    second, muted = list(stack.by_key)[1:]
    stack.set_scale("adapter", 0.5)
    stack.set_master(0.8)
    stack.set_scale(second, -1.25)
    stack.set_muted(muted, True)
    stack.set_gains(second, preset("last-third", stack.by_key[second].modules, 2))
    desk.window.commands.export.trigger()
    dialog = desk.window.findChild(ExportDialog)
    assert dialog is not None
    dialog.path_edit.setText(str(tmp_path / "by the desk.gguf"))
    dialog.rank_box.setValue(6)
    dialog.command_button.click()
    line = QGuiApplication.clipboard().text()
    dialog.accept()
    qtbot.waitUntil(lambda: (tmp_path / "by the desk.gguf").exists() and not desk.jobs.busy)

    words = shlex.split(line)
    assert "muted" not in line
    assert words[words.index("--adapter") + 1].endswith("adapter.gguf:0.4")
    words[words.index("-o") + 1] = str(tmp_path / "by the command.gguf")
    monkeypatch.setattr(sys, "argv", [*words[:1], "--safe-mode", *words[1:]])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None)
    written = [(tmp_path / f"by the {name}.gguf").read_bytes() for name in ("desk", "command")]
    assert written[0] == written[1]


def test_the_edit_menu_copies_what_is_heard(desk: Desk, tmp_path: Path) -> None:
    desk.window.commands.copy_command.trigger()
    words = shlex.split(QGuiApplication.clipboard().text())
    assert words[:3] == ["lora-studio", "export", str(tmp_path / "base.gguf")]
    assert words[3:5] == ["--adapter", f"{tmp_path / 'adapter.gguf'}:1"]
    desk.window.commands.mute_all.trigger()
    desk.window.commands.copy_command.trigger()
    assert "the blend is silent" in desk.window.toast.label.text()


def test_a_combined_adapter_takes_the_place_of_its_sources(desk: Desk, qtbot: QtBot) -> None:
    stack = desk.session.stack
    stack.set_master(0.5)
    dialog = combine(desk, "ties", qtbot)
    qtbot.waitUntil(lambda: "full rank" in dialog.outcome.advice.text())
    assert not dialog.add_button.isEnabled()
    dialog.curve.setFocus()
    QTest.keyClick(dialog.curve, Qt.Key.Key_Home)
    assert dialog.rank == 1
    qtbot.waitUntil(dialog.add_button.isEnabled)
    dialog.add_button.click()
    qtbot.waitUntil(lambda: len(stack.by_key) == 2)
    made = stack.state.channels[-1]
    assert made.scale == 2.0  # times the master it is as it was heard
    assert [channel.key for channel in stack.blend.channels] == [made.key]
    assert "it is exported" in desk.window.toast.label.text()
    desk.window.commands.copy_command.trigger()
    assert "is in no file yet" in desk.window.toast.label.text()
    desk.session.history.undo()
    assert [channel.key for channel in stack.blend.channels] == ["adapter"]


def test_a_combination_is_exported_and_has_its_command(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    dialog = combine(desk, "magnitude_prune", qtbot)
    qtbot.waitUntil(lambda: "full rank" in dialog.outcome.advice.text())
    dialog.rank_box.setValue(3)
    dialog.energy_box.setValue(90.0)
    dialog.export_button.click()
    export = desk.window.findChild(ExportDialog)
    assert export is not None and export.rank == 3
    assert ("Combined by", "magnitude_prune") in export.facts.facts
    export.path_edit.setText(str(tmp_path / "pruned.gguf"))
    export.command_button.click()
    line = QGuiApplication.clipboard().text()
    assert "--rank 3 --energy 0.9 --method magnitude_prune" in line
    with qtbot.waitSignal(desk.notices.shown, check_params_cb=lambda text: "Exported" in text):
        export.accept()
    assert (tmp_path / "pruned.gguf").exists()


def test_a_method_that_refuses_says_so(desk: Desk, qtbot: QtBot) -> None:
    dialog = combine(desk, "slerp", qtbot)  # an arc needs two ends
    qtbot.waitUntil(lambda: dialog.outcome.advice.text() != "" or dialog.add_button.isEnabled())
    dialog.reject()


def combine(desk: Desk, method: str, qtbot: QtBot) -> CombineDialog:
    """Open the combine dialog and choose a method."""
    desk.window.commands.combine.trigger()
    dialog = desk.window.findChild(CombineDialog)
    assert dialog is not None
    qtbot.waitUntil(dialog.add_button.isEnabled)
    dialog.choice.setCurrentRow([one.name for one in dialog._methods].index(method))
    return dialog


def fact(dialog: ExportDialog, name: str) -> str:
    """Return what the preview says under a name."""
    return dict(dialog.preview.facts).get(name, "")
