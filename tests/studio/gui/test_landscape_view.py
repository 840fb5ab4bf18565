"""The landscape: contours lie where the loss has their value, and the point follows mouse and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from studio.gui.contours import contours, surface
from studio.gui.landscape_view import LandscapeView

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

X, Y = np.linspace(-1.0, 2.0, 7), np.linspace(0.0, 1.0, 5)
BOWL = 1 + (X[np.newaxis, :] - 0.5) ** 2 + (Y[:, np.newaxis] - 0.25) ** 2  # [Y, X]


@pytest.fixture
def view(qtbot: QtBot) -> LandscapeView:
    view = LandscapeView()
    qtbot.addWidget(view)
    view.resize(420, 380)
    view.show()
    view.set_landscape(X, Y, BOWL)
    view.set_point(1.0, 0.5)
    return view


def test_contours_lie_where_the_surface_has_their_height() -> None:
    path = contours(X, Y, BOWL, np.array([1.4]))
    points = [path.elementAt(index) for index in range(path.elementCount())]
    assert len(points) > 20
    heights = [surface(X, Y, BOWL, np.array([at.x]), np.array([at.y]))[0, 0] for at in points]
    np.testing.assert_allclose(heights, 1.4, atol=0.005)


def test_the_lowest_point_is_found_and_losses_lie_between_the_measured_ones(view: LandscapeView) -> None:
    assert view.lowest == (0.5, 0.25, 1.0)
    assert view.loss_at(-1.0, 0.0) == BOWL[0, 0] and view.loss_at(2.0, 0.0) == BOWL[0, -1]
    assert view.loss_at(0.75, 0.3) == pytest.approx(1 + 0.25**2 + 0.05**2)
    assert view.loss_at(2.5, 0.25) is None


def test_a_drag_moves_the_point_within_the_picture(view: LandscapeView) -> None:
    told: list[object] = []
    view.drag_started.connect(lambda: told.append("begin"))
    view.moved.connect(lambda x, y: told.append((x, y)))
    view.drag_finished.connect(lambda: told.append("end"))
    left = Qt.MouseButton.LeftButton
    start, far = view.position_of(0.0, 0.5).toPoint(), view.position_of(9.0, 0.75).toPoint()
    QTest.mousePress(view.viewport(), left, pos=start)
    QTest.mouseMove(view.viewport(), far)
    QTest.mouseRelease(view.viewport(), left, pos=far)
    QTest.mouseMove(view.viewport(), start)
    assert told[0] == "begin" and told[-1] == "end" and len(told) == 4
    assert told[1] == pytest.approx((0.0, 0.5), abs=0.01)
    assert view.point == pytest.approx((2.0, 0.75), abs=0.01)


def test_held_keys_are_one_drag(view: LandscapeView) -> None:
    told: list[object] = []
    view.drag_started.connect(lambda: told.append("begin"))
    view.moved.connect(lambda x, y: told.append((x, y)))
    view.drag_finished.connect(lambda: told.append("end"))
    QTest.keyPress(view, Qt.Key.Key_Up)
    QTest.keyPress(view, Qt.Key.Key_Up)
    QTest.keyRelease(view, Qt.Key.Key_Up)
    QTest.keyClick(view, Qt.Key.Key_Left, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClick(view, Qt.Key.Key_Home)
    assert told == [
        *("begin", (1.0, 0.51), (1.0, 0.52), "end"),
        *("begin", (0.9, 0.52), "end"),
        *("begin", (0.5, 0.25), "end"),
    ]
    assert view.accessibleDescription() == "point at 0.50, 0.25: loss 1.000"


def test_setters_are_silent_and_an_unknown_landscape_takes_no_drag(view: LandscapeView) -> None:
    told: list[object] = []
    view.moved.connect(lambda x, y: told.append((x, y)))
    view.set_point(0.2, 0.2)
    view.clear_landscape()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton)
    assert told == [] and view.lowest is None
