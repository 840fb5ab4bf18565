"""The stack panel and its channel strips."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QAbstractSlider, QApplication, QLineEdit, QWidget

from studio.gui.channel_row import Channel
from studio.gui.stack_panel import MASTER, StackPanel

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

PIRATE = Channel("1", "pirate", "r8 · 210/210 · ‖Δ‖ 1.9 %", scale=0.8, report="all fits")
LEGAL = Channel(
    "2", "legal", "r16 · 60/210 · ‖Δ‖ 0.3 %", scale=0.2, muted=True, audible=False, report="all fits"
)
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def panel(qtbot: QtBot) -> StackPanel:
    panel = StackPanel()
    qtbot.addWidget(panel)
    panel.resize(340, 480)
    panel.set_channels([PIRATE, LEGAL])
    panel.show()
    return panel


@pytest.fixture
def told(panel: StackPanel) -> list[tuple[object, ...]]:
    """Every signal of the panel with its arguments, in order."""
    told: list[tuple[object, ...]] = []
    for name in ("scale_changed", "drag_started", "drag_finished", "mute_toggled", "solo_toggled"):
        getattr(panel, name).connect(lambda *values, name=name: told.append((name, *values)))
    for name in ("remove_requested", "master_changed", "paths_dropped"):
        getattr(panel, name).connect(lambda value, name=name: told.append((name, value)))
    panel.gains_requested.connect(lambda key: told.append(("gains_requested", key)))
    panel.add_requested.connect(lambda: told.append(("add_requested",)))
    return told


def test_setters_emit_nothing(panel: StackPanel, told: list[tuple[object, ...]]) -> None:
    panel.set_channels([Channel("2", "legal", scale=-3.0, soloed=True), Channel("3", "code", scale=1.5)])
    panel.set_master(0.5)
    assert told == []
    assert list(panel.rows) == ["2", "3"]
    assert panel.rows["2"].number.value() == -3.0
    assert panel.rows["2"].solo_button.isChecked()
    assert panel.master.fader.scale == 0.5


def test_strips_are_kept_by_key(panel: StackPanel) -> None:
    pirate = panel.rows["1"]
    panel.set_channels([LEGAL, PIRATE])
    assert list(panel.rows) == ["2", "1"]
    assert panel.rows["1"] is pirate


def test_typing_a_scale_reaches_beyond_the_fader(
    panel: StackPanel, qtbot: QtBot, told: list[tuple[object, ...]]
) -> None:
    number = panel.rows["1"].number
    number.selectAll()
    QTest.keyClicks(number, "-7.125")
    assert told == []  # an entry counts once it is done
    QTest.keyClick(number, Qt.Key.Key_Return)
    assert told == [("scale_changed", "1", -7.125)]
    assert number.text() == "-7.125"
    assert panel.rows["1"].fader.scale == -4.0


def test_a_drag_names_its_channel(panel: StackPanel, qtbot: QtBot, told: list[tuple[object, ...]]) -> None:
    fader = panel.rows["1"].fader
    QTest.mousePress(fader, LEFT, pos=QPoint(5, 13))
    QTest.mouseRelease(fader, LEFT, pos=QPoint(5, 13))
    assert told == [("drag_started", "1"), ("scale_changed", "1", -4.0), ("drag_finished", "1")]
    assert panel.rows["1"].number.value() == -4.0


def test_mute_and_solo(panel: StackPanel, qtbot: QtBot, told: list[tuple[object, ...]]) -> None:
    row = panel.rows["2"]
    QTest.mouseClick(row.mute_button, LEFT)
    QTest.mouseClick(row.solo_button, LEFT)
    assert told == [("mute_toggled", "2", False), ("solo_toggled", "2", True, False)]


def test_gains_are_asked_for_and_their_light_tells_whether_there_are_any(
    panel: StackPanel, told: list[tuple[object, ...]]
) -> None:
    button = panel.rows["1"].gains_button
    QTest.mouseClick(button, LEFT)
    assert told == [("gains_requested", "1")]
    assert not button.isChecked()
    panel.set_channels([replace(PIRATE, shaped=True), LEGAL])
    QTest.mouseClick(button, LEFT)
    assert button.isChecked()


def test_shift_solos_this_one_alone(panel: StackPanel, qtbot: QtBot, told: list[tuple[object, ...]]) -> None:
    button = panel.rows["1"].solo_button
    QTest.mouseClick(button, LEFT, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClick(button, Qt.Key.Key_Space, Qt.KeyboardModifier.ShiftModifier)
    assert told == [("solo_toggled", "1", True, True), ("solo_toggled", "1", False, True)]


def test_remove_and_add(panel: StackPanel, qtbot: QtBot, told: list[tuple[object, ...]]) -> None:
    QTest.mouseClick(panel.rows["1"].remove_button, LEFT)
    QTest.mouseClick(panel.add_button, LEFT)
    assert told == [("remove_requested", "1"), ("add_requested",)]


def test_master(panel: StackPanel, qtbot: QtBot, told: list[tuple[object, ...]]) -> None:
    QTest.keyClick(panel.master.fader, Qt.Key.Key_Left)
    assert told == [("drag_started", MASTER), ("master_changed", 0.99), ("drag_finished", MASTER)]


def test_a_removed_channel_keeps_its_colour_for_its_return(panel: StackPanel, qtbot: QtBot) -> None:
    before = panel.rows["2"].grab().toImage().pixelColor(6, 40)
    panel.set_channels([PIRATE])
    panel.set_channels([LEGAL])
    assert panel.rows["2"].grab().toImage().pixelColor(6, 40) == before


def test_dropped_paths_are_handed_on(
    panel: StackPanel, tmp_path: Path, told: list[tuple[object, ...]]
) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(tmp_path))])
    copy, none = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(9, 9), copy, mime, LEFT, none)
    QApplication.sendEvent(panel, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(panel, QDropEvent(QPointF(9, 9), copy, mime, LEFT, none))
    assert told == [("paths_dropped", [tmp_path])]


def test_only_a_report_that_warns_is_marked(panel: StackPanel, qtbot: QtBot) -> None:
    panel.set_channels([replace(PIRATE, flagged=True), LEGAL, replace(LEGAL, key="3", report="")])
    buttons = [row.report_button for row in panel.rows.values()]
    assert [button.text() for button in buttons] == ["!", "i", "i"]
    assert [button.isEnabled() for button in buttons] == [True, True, False]
    with qtbot.waitSignal(panel.report_requested) as asked:
        QTest.mouseClick(buttons[0], LEFT)
    assert asked.args == ["1"]


def test_tab_walks_every_strip_from_the_top(panel: StackPanel, qtbot: QtBot) -> None:
    panel.set_channels([LEGAL, PIRATE])
    chain: list[QWidget] = [panel.master.fader, panel.master.number]
    chain += panel.rows["2"].tab_chain + panel.rows["1"].tab_chain + [panel.add_button]
    chain[0].setFocus()
    visited = [chain[0]]
    for _ in chain[1:]:
        panel.focusNextChild()
        visited.append(panel.focusWidget())
    assert visited == chain


def test_every_control_has_an_accessible_name(panel: StackPanel) -> None:
    controls = [*panel.findChildren(QAbstractButton), *panel.findChildren(QLineEdit)]
    controls += [*panel.rows["1"].findChildren(QAbstractSlider), panel.master.fader]
    assert len(controls) > 10
    assert [control for control in controls if not control.accessibleName()] == []
