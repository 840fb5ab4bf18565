"""Gains on the desk: drawn in the editor, heard in the blend, shown in the heatmap, undone in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest

from studio.contracts import EVEN

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from studio.gui.desk import Desk

LEFT = Qt.MouseButton.LeftButton


def test_a_stroke_is_heard_shown_and_undone_as_one_step(desk: Desk, qtbot: QtBot) -> None:
    stack, heatmap = desk.session.stack, desk.window.heatmap
    QTest.mouseClick(desk.window.stack.rows["adapter"].gains_button, LEFT)
    editor = desk.gains.editor
    assert editor.isVisible() and editor.targets == ("attn_q", "attn_v")
    before = heatmap._values.copy()
    curve = editor.curve
    with qtbot.waitSignal(
        desk.live.shown, check_params_cb=lambda result: result.request.state.channels[0].gains != EVEN
    ):
        QTest.mousePress(curve, LEFT, pos=QPoint(20, 30))
        QTest.mouseMove(curve, QPoint(20, curve.height()))
        QTest.mouseMove(curve, QPoint(curve.width() - 40, curve.height()))
        QTest.mouseRelease(curve, LEFT, pos=QPoint(curve.width() - 40, curve.height()))
    assert all(stack.channel("adapter").gains[module] == 0 for module in stack.by_key["adapter"].modules)
    qtbot.waitUntil(lambda: bool(before.any() and not heatmap._values.any()))
    row = desk.window.stack.rows["adapter"]
    qtbot.waitUntil(row.gains_button.isChecked)
    assert "gains" in row.details_label.text()
    desk.session.history.undo()
    assert stack.channel("adapter").gains == EVEN
    qtbot.waitUntil(lambda: not row.gains_button.isChecked() and curve.gain(0) == 1)
    np.testing.assert_array_equal(heatmap._values, before)


def test_a_preset_is_one_step_and_goes_to_the_ticked_targets(desk: Desk) -> None:
    stack = desk.session.stack
    desk.gains.open("adapter")
    desk.gains.editor.boxes["attn_v"].click()
    desk.gains.editor.presets["mlp"].click()
    gains = stack.channel("adapter").gains
    assert [gains[f"blk.0.{target}.weight"] for target in ("attn_q", "attn_v")] == [0, 1]
    desk.session.history.undo()
    assert stack.channel("adapter").gains == EVEN


def test_the_editor_goes_with_its_channel(desk: Desk, qtbot: QtBot) -> None:
    desk.gains.open("adapter")
    desk.session.remove_adapter("adapter")
    qtbot.waitUntil(lambda: not desk.gains.editor.isVisible())
