"""Import reports on the desk: they come forward when there is something to tell, and are there afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QDoubleSpinBox
from safetensors.numpy import save_file

from studio.gui.options_dialog import OptionsDialog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from studio.gui.desk import Desk


@pytest.fixture
def bare_weights(tmp_path: Path) -> Path:
    """The weights of a PEFT adapter of the random llama, without their configuration."""
    random = np.random.default_rng(3)
    module = "base_model.model.model.layers.0.self_attn.v_proj"
    tensors = {
        f"{module}.lora_A.weight": random.standard_normal((4, 32), dtype=np.float32),
        f"{module}.lora_B.weight": random.standard_normal((32, 4), dtype=np.float32),
    }
    save_file(tensors, tmp_path / "bare.safetensors")
    return tmp_path / "bare.safetensors"


def test_weights_that_do_not_tell_their_alpha_are_asked_about(
    desk: Desk, qtbot: QtBot, bare_weights: Path
) -> None:
    desk.models.add_adapter(bare_weights)
    qtbot.waitUntil(lambda: desk.window.findChild(OptionsDialog) is not None)
    dialog = desk.window.findChild(OptionsDialog)
    assert dialog is not None and "alpha" in dialog.accessibleDescription()
    alpha = dialog.form.findChild(QDoubleSpinBox, "alpha")
    assert alpha is not None
    qtbot.waitUntil(alpha.hasFocus)
    alpha.setValue(8.0)
    dialog.accept()
    qtbot.waitUntil(lambda: "bare" in desk.session.stack.by_key)

    assert desk.session.reports["bare"].alphas == (8.0,)
    assert desk.window.report.key == "bare"  # it has something to tell
    assert "The file does not tell its alpha" in desk.window.report.text.toPlainText()
    qtbot.waitUntil(lambda: "bare" in desk.window.stack.rows)
    button = desk.window.stack.rows["bare"].report_button
    assert button.text() == "!" and button.toolTip() == "1 of 1 modules matched, 1 warning"


def test_a_report_is_reached_by_button_and_by_key(desk: Desk, qtbot: QtBot, bare_weights: Path) -> None:
    desk.models.add_adapter(bare_weights, {"alpha": 2.0})
    qtbot.waitUntil(lambda: "bare" in desk.window.stack.rows)
    QTest.mouseClick(desk.window.stack.rows["adapter"].report_button, Qt.MouseButton.LeftButton)
    assert desk.window.report.key == "adapter"
    assert desk.window.docks["report"].isVisible()
    desk.window.activateWindow()
    desk.window.stack.rows["bare"].fader.setFocus()
    qtbot.waitUntil(desk.window.stack.rows["bare"].fader.hasFocus)
    desk.window.commands.report.trigger()
    assert desk.window.report.key == "bare"


def test_another_failure_is_reported_as_before(
    desk: Desk, qtbot: QtBot, tmp_path: Path, write_adapter: Callable[..., Path]
) -> None:
    with qtbot.waitSignal(desk.notices.failed) as failed:
        desk.models.add_adapter(write_adapter("wide.gguf", width=64))
    assert failed.args is not None and failed.args[0].startswith("Add wide.gguf: ")
    assert desk.window.findChild(OptionsDialog) is None
