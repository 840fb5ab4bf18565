"""The heatmap shows how the loss changes with every gain, measured on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.gui.controllers.sensitivity import STALE

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from studio.gui.desk import Desk


def loss(desk: Desk, scale: float) -> float:
    """The loss of the prompt with the adapter at a scale, by an engine of the test's own."""
    session = desk.session
    assert session.base is not None and session.tokenizer is not None
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(session.base)
    engine.attach(session.stack.by_key)
    session.stack.set_scale("adapter", scale)
    (found,) = engine.losses([desk.wanted.wanted[0].example(session.tokenizer)], [session.stack.blend])
    engine.close()
    return found.mean


@pytest.mark.parametrize("title", ["Sensitivity of the blend", "Sensitivity to adapter"])
def test_slopes_add_up_to_that_of_the_scale(desk: Desk, qtbot: QtBot, title: str) -> None:
    heatmap = desk.window.heatmap
    assert heatmap.refresh_button.isHidden()
    index = heatmap.mode_box.findText(title)
    heatmap.mode_box.setCurrentIndex(index)
    heatmap.mode_box.activated.emit(index)
    qtbot.waitUntil(lambda: bool(np.any(heatmap._values)))
    low, high = heatmap.range
    assert low == -high < 0 and heatmap.refresh_button.isVisible()
    assert [row for row in range(7) if not heatmap._absent[row].all()] == [0, 2]  # attn_q and attn_v
    qtbot.waitUntil(lambda: heatmap.readout.text().startswith("loss"))
    total = float(heatmap._values.sum())
    slope = (loss(desk, 1.005) - loss(desk, 0.995)) / 0.01  # at scale 1 both measure the same
    assert total == pytest.approx(slope, rel=0.03, abs=1e-3)


def test_a_moved_slider_says_so_and_refresh_measures_again(desk: Desk, qtbot: QtBot) -> None:
    heatmap = desk.window.heatmap
    desk.window.commands.sensitivity.trigger()
    assert heatmap.mode_box.currentText() == "Sensitivity of the blend"
    qtbot.waitUntil(lambda: heatmap.readout.text().startswith("loss"))
    before = heatmap._values.copy()
    desk.session.stack.set_scale("adapter", 0.3)
    qtbot.waitUntil(lambda: heatmap.readout.text() == STALE)
    np.testing.assert_array_equal(heatmap._values, before)
    QTest.mouseClick(heatmap.refresh_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: heatmap.readout.text().startswith("loss"))
    assert not np.array_equal(heatmap._values, before)
    desk.window.prompt.prompt_changed.emit("hello", False)
    assert heatmap.readout.text() == STALE


def test_nothing_is_measured_without_a_text(desk: Desk) -> None:
    desk.window.prompt.prompt_changed.emit("", False)
    desk.window.commands.sensitivity.trigger()
    assert "Write a prompt first" in desk.window.toast.label.text()
