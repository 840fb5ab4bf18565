"""The run panel shows one run, and its switches speak only when a hand moves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from studio.gui.run_panel import RunPanel
from studio.gui.theme import apply_theme

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot


@pytest.fixture
def panel(qtbot: QtBot) -> RunPanel:
    panel = RunPanel()
    qtbot.addWidget(panel)
    panel.resize(800, 240)
    panel.show()
    return panel


def test_it_hints_until_there_is_a_run(panel: RunPanel) -> None:
    assert panel.hint.isVisible() and "Ctrl+L" in panel.hint.text()
    panel.set_run("nautical")
    assert not panel.hint.isVisible() and panel.name_label.text() == "nautical"


def test_numbers_and_samples_belong_to_their_run(panel: RunPanel) -> None:
    panel.set_run("first")
    panel.set_numbers([("step", "3 / 9"), ("loss", "2.500")])
    panel.set_samples([(1, "once"), (3, " upon\na time ")])
    assert panel.numbers.numbers == {"step": "3 / 9", "loss": "2.500"}
    assert panel.samples.toPlainText() == "Step 3\nupon\na time\n\nStep 1\nonce"
    panel.set_run("second")
    assert panel.numbers.numbers == {} and panel.samples.toPlainText() == ""


def test_switches_speak_for_the_user_alone(panel: RunPanel, qtbot: QtBot) -> None:
    heard: list[object] = []
    panel.listen_toggled.connect(heard.append)
    panel.stop_requested.connect(lambda: heard.append("stop"))
    panel.set_run("nautical")
    panel.set_listening(True)
    panel.set_listening(False)
    assert not panel.stop_button.isEnabled() and not panel.listen_box.isEnabled()
    panel.set_running(True)
    assert heard == []
    panel.listen_box.setFocus()
    QTest.keyClick(panel.listen_box, Qt.Key.Key_Space)
    QTest.keyClick(panel.stop_button, Qt.Key.Key_Space)
    assert heard == [True, "stop"]
    panel.log_box.click()
    assert panel.plot.log


def test_it_follows_the_theme(panel: RunPanel, qapp: QApplication) -> None:
    panel.set_run("nautical")
    light = panel.grab().toImage().pixelColor(panel.plot.geometry().center())
    apply_theme(qapp, "dark")
    qapp.processEvents()
    assert panel.grab().toImage().pixelColor(panel.plot.geometry().center()).lightness() < light.lightness()
