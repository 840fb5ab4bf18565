"""The landscape on the desk: measured over two channels, and dragged through with live faders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from studio.gui.controllers.landscape import STALE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from studio.gui.desk import Desk
    from studio.gui.landscape_dialog import LandscapeDialog

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def dialog(desk: Desk, qtbot: QtBot, write_adapter: Callable[..., Path]) -> LandscapeDialog:
    """The landscape of two adapters, measured on the prompt."""
    desk.models.add_adapter(write_adapter("second.gguf", seed=2))
    qtbot.waitUntil(lambda: len(desk.session.stack.by_key) == 2)
    desk.window.commands.landscape.trigger()
    dialog = desk.landscape.dialog
    qtbot.waitUntil(lambda: dialog.keys == ("adapter", "second"))
    dialog.points_box.setValue(5)
    QTest.mouseClick(dialog.start_button, LEFT)
    qtbot.waitUntil(lambda: dialog.view.lowest is not None)
    return dialog


def test_a_drag_moves_two_faders_live_and_is_one_step(
    desk: Desk, qtbot: QtBot, dialog: LandscapeDialog
) -> None:
    view, stack = dialog.view, desk.session.stack
    assert view.point == (1.0, 1.0) and view._losses.shape == (5, 5)
    assert view.loss_at(2.0, -1.0) == pytest.approx(view._losses[0, -1])  # x goes across
    assert view._losses[0, -1] != pytest.approx(view._losses[-1, 0])
    places = [view.position_of(*at).toPoint() for at in ((1, 1), (0.5, 0.5), (0.0, 0.5))]
    QTest.mousePress(view.viewport(), LEFT, pos=places[0])
    for place in places[1:]:
        QTest.mouseMove(view.viewport(), place)
    with qtbot.waitSignal(
        desk.live.shown, check_params_cb=lambda result: result.request.state == stack.blend
    ):
        QTest.mouseRelease(view.viewport(), LEFT, pos=places[-1])
    scales = stack.channel("adapter").scale, stack.channel("second").scale
    assert scales == pytest.approx((0.0, 0.5), abs=0.02)
    qtbot.waitUntil(lambda: desk.window.stack.rows["second"].number.value() == scales[1])
    desk.session.history.undo()
    assert stack.channel("adapter").scale == stack.channel("second").scale == 1.0
    qtbot.waitUntil(lambda: view.point == (1.0, 1.0))


def test_keys_move_the_point_and_find_the_lowest(desk: Desk, dialog: LandscapeDialog) -> None:
    stack = desk.session.stack
    QTest.keyClick(dialog.view, Qt.Key.Key_Right)
    assert stack.channel("adapter").scale == 1.01
    QTest.keyClick(dialog.view, Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    assert stack.channel("second").scale == 0.9
    QTest.keyClick(dialog.view, Qt.Key.Key_Home)
    assert dialog.view.lowest is not None
    assert f"lowest measured {dialog.view.lowest[2]:.3f}" in dialog.readout.text()
    assert dialog.view.point == dialog.view.lowest[:2]
    desk.session.history.undo()
    assert stack.channel("second").scale == 0.9


def test_a_fader_moves_the_point_and_another_channel_asks_to_measure_again(
    desk: Desk, qtbot: QtBot, dialog: LandscapeDialog, write_adapter: Callable[..., Path]
) -> None:
    desk.session.stack.set_scale("second", 0.25)
    qtbot.waitUntil(lambda: dialog.view.point == (1.0, 0.25))
    qtbot.waitUntil(lambda: "lowest" in dialog.readout.text())
    desk.models.add_adapter(write_adapter("third.gguf", seed=3))
    qtbot.waitUntil(lambda: dialog.readout.text() == STALE)
    assert dialog.keys == ("adapter", "second")
    dialog.y_box.setCurrentIndex(dialog.x_box.currentIndex())
    dialog.y_box.activated.emit(0)
    assert not dialog.start_button.isEnabled() and "not the same" in dialog.start_button.toolTip()
    assert dialog.view.lowest is None


def test_one_channel_has_no_landscape(desk: Desk) -> None:
    desk.window.commands.landscape.trigger()
    assert not desk.landscape.dialog.start_button.isEnabled()
    assert "two channels" in desk.landscape.dialog.start_button.toolTip()
