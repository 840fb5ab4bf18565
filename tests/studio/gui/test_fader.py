"""A fader: where scales stand, how it is moved, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest

from studio.gui.fader import Fader

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def fader(qtbot: QtBot) -> Fader:
    fader = Fader()
    qtbot.addWidget(fader)
    fader.resize(211, 26)  # the handle runs over 200 pixels: -4 at 5, 0 at 105, 4 at 205
    fader.show()
    return fader


@pytest.fixture
def told(fader: Fader) -> list[object]:
    """What the fader emits, in order."""
    told: list[object] = []
    fader.drag_started.connect(lambda: told.append("start"))
    fader.moved.connect(told.append)
    fader.drag_finished.connect(lambda: told.append("end"))
    return told


def test_setting_a_scale_emits_nothing(fader: Fader, told: list[object]) -> None:
    fader.set_scale(0.8)
    assert fader.scale == 0.8
    assert told == []


def test_a_scale_beyond_the_ends_stands_at_the_end(fader: Fader) -> None:
    fader.set_scale(-7.5)
    assert fader.scale == -4.0


@pytest.mark.parametrize(("x", "scale"), [(105, 0.0), (155, 1.0), (55, -1.0), (205, 4.0), (5, -4.0)])
def test_a_press_brings_the_handle_here(fader: Fader, qtbot: QtBot, x: int, scale: float) -> None:
    fader.set_scale(2.0)
    QTest.mousePress(fader, LEFT, pos=QPoint(x, 13))
    assert fader.scale == pytest.approx(scale, abs=0.06)
    QTest.mouseRelease(fader, LEFT, pos=QPoint(x, 13))


def test_zero_and_one_are_magnetic(fader: Fader, qtbot: QtBot) -> None:
    fader.set_scale(-4.0)
    for x, scale in ((106, 0.0), (156, 1.0)):
        QTest.mouseClick(fader, LEFT, pos=QPoint(x, 13))
        assert fader.scale == scale


def test_a_drag_is_announced_at_both_ends(fader: Fader, qtbot: QtBot, told: list[object]) -> None:
    QTest.mousePress(fader, LEFT, pos=QPoint(105, 13))
    QTest.mouseMove(fader, QPoint(125, 13))
    QTest.mouseMove(fader, QPoint(140, 13))
    QTest.mouseRelease(fader, LEFT, pos=QPoint(140, 13))
    assert told[0] == "start"
    assert told[-1] == "end"
    assert len(told) == 4


def test_double_click_goes_back_to_one(fader: Fader, qtbot: QtBot) -> None:
    fader.set_scale(-2.5)
    QTest.mouseDClick(fader, LEFT, pos=QPoint(105, 13))
    assert fader.scale == 1.0


def test_arrow_keys_step_by_a_hundredth_as_one_drag(fader: Fader, qtbot: QtBot, told: list[object]) -> None:
    fader.set_scale(1.0)
    QTest.keyClick(fader, Qt.Key.Key_Right)
    assert told == ["start", 1.01, "end"]
    QTest.keyClick(fader, Qt.Key.Key_PageDown)
    assert fader.scale == pytest.approx(0.91)
