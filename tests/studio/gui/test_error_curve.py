"""The error curve: a rank is chosen by the mouse or by keys, and setters stay silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from studio.gui.error_curve import ErrorCurve

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


@pytest.fixture
def curve(qtbot: QtBot) -> ErrorCurve:
    curve = ErrorCurve()
    qtbot.addWidget(curve)
    curve.resize(500, 220)
    curve.show()
    curve.set_curve(np.linspace(1.0, 0.0, 25))
    return curve


def test_the_mouse_chooses_the_rank_under_it(curve: ErrorCurve, qtbot: QtBot) -> None:
    with qtbot.waitSignal(curve.rank_chosen) as chosen:
        QTest.mouseClick(curve.viewport(), Qt.MouseButton.LeftButton, pos=curve.position_of(12).toPoint())
    assert chosen.args == [12] and curve.rank == 12
    assert curve.accessibleDescription() == "rank 12, error 50.0%"


def test_keys_walk_along_the_ranks(curve: ErrorCurve) -> None:
    chosen: list[int] = []
    curve.rank_chosen.connect(chosen.append)
    for key in (Qt.Key.Key_Home, Qt.Key.Key_Right, Qt.Key.Key_PageUp, Qt.Key.Key_Left, Qt.Key.Key_End):
        QTest.keyClick(curve, key)
    assert chosen == [1, 2, 10, 9, 24]
    QTest.keyClick(curve, Qt.Key.Key_Right)
    assert chosen[-1] == 24  # there is no rank beyond


def test_setters_are_silent_and_an_empty_curve_takes_no_choice(curve: ErrorCurve) -> None:
    chosen: list[int] = []
    curve.rank_chosen.connect(chosen.append)
    curve.set_rank(3)
    curve.set_curve(np.zeros(0))
    assert chosen == [] and not curve.isEnabled()
