"""The gains editor: drawn by the mouse, moved by keys, aimed at targets."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QAbstractSpinBox, QWidget
from pytestqt.qtbot import QtBot

from studio.gui.gains_editor import ChannelGains, GainsEditor
from studio.gui.layer_columns import column_rect
from studio.gui.theme import current_theme

LEFT = Qt.MouseButton.LeftButton
TARGETS = ("attn_q", "ffn_up", "output")
LAYERS = 6


def channel(gain: float = 1.0, key: str = "pirate") -> ChannelGains:
    gains = np.full((3, LAYERS), gain, np.float32)
    gains[2, :-1] = np.nan  # the output stands behind the last layer
    return ChannelGains(key, key, 0, TARGETS, gains)


@pytest.fixture
def editor(qtbot: QtBot) -> GainsEditor:
    editor = GainsEditor()
    qtbot.addWidget(editor)
    editor.set_channel(channel())
    editor.show()
    return editor


@pytest.fixture
def told(editor: GainsEditor) -> list[tuple[object, ...]]:
    """Every signal of the editor with its arguments, in order."""
    told: list[tuple[object, ...]] = []
    for name in ("layers_drawn", "preset_chosen", "drag_started", "drag_finished"):
        getattr(editor, name).connect(lambda *values, name=name: told.append((name, *values)))
    return told


def at(editor: GainsEditor, layer: int, gain: float) -> QPoint:
    curve = editor.curve
    column = column_rect(curve.width(), LAYERS, layer, 0, 0)
    return QPoint(round(column.center().x()), round(curve._y_of(gain)))


def test_setters_emit_nothing(editor: GainsEditor, told: list[tuple[object, ...]]) -> None:
    editor.set_channel(channel(0.5))
    editor.set_channel(channel(-1.0, "legal"))
    assert told == []
    assert editor.windowTitle() == "Gains of legal"
    assert editor.number.value() == -1


def test_a_stroke_draws_a_straight_line_and_is_one_drag(
    editor: GainsEditor, told: list[tuple[object, ...]]
) -> None:
    QTest.mousePress(editor.curve, LEFT, pos=at(editor, 1, 0.0))
    QTest.mouseMove(editor.curve, at(editor, 5, 2.0))
    QTest.mouseRelease(editor.curve, LEFT, pos=at(editor, 5, 2.0))
    assert [one[0] for one in told] == ["drag_started", "layers_drawn", "layers_drawn", "drag_finished"]
    assert told[1] == ("layers_drawn", "pirate", TARGETS, {1: 0.0})
    drawn = told[2][3]
    assert isinstance(drawn, dict)
    assert drawn == pytest.approx({1: 0.0, 2: 0.5, 3: 1.0, 4: 1.5, 5: 2.0}, abs=0.02)
    assert editor.curve.layer == 5


def test_the_mouse_snaps_to_0_and_1_and_stays_inside(
    editor: GainsEditor, told: list[tuple[object, ...]]
) -> None:
    for gain, offset, expected in ((1.0, 2, 1.0), (0.0, -2, 0.0), (2.0, -500, 2.0), (0.0, 500, 0.0)):
        QTest.mouseClick(editor.curve, LEFT, pos=at(editor, 2, gain) + QPoint(0, offset))
        assert told[-2][3] == {2: expected}


def test_a_double_click_goes_back_to_1(editor: GainsEditor, told: list[tuple[object, ...]]) -> None:
    QTest.mouseDClick(editor.curve, LEFT, pos=at(editor, 3, 0.2))
    assert told[-1] == ("layers_drawn", "pirate", TARGETS, {3: 1.0})


def test_keys_choose_a_layer_and_change_it(editor: GainsEditor, told: list[tuple[object, ...]]) -> None:
    for key in (Qt.Key.Key_End, Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Right):
        QTest.keyClick(editor.curve, key)
    assert told == []
    assert editor.layer_label.text() == "Layer 5"
    for key, gain in (
        (Qt.Key.Key_Up, 1.05),
        (Qt.Key.Key_Down, 0.95),
        (Qt.Key.Key_PageUp, 1.25),
        (Qt.Key.Key_PageDown, 0.75),
        (Qt.Key.Key_0, 0.0),
        (Qt.Key.Key_2, 2.0),
    ):
        QTest.keyClick(editor.curve, key)
        assert told == [("drag_started",), ("layers_drawn", "pirate", TARGETS, {5: gain}), ("drag_finished",)]
        told.clear()


def test_a_held_key_is_one_drag_even_if_its_release_goes_elsewhere(
    editor: GainsEditor, told: list[tuple[object, ...]]
) -> None:
    QTest.keyPress(editor.curve, Qt.Key.Key_Up)
    QTest.keyPress(editor.curve, Qt.Key.Key_Up)
    editor.curve.clearFocus()
    QTest.keyClick(editor.curve, Qt.Key.Key_Home)
    assert [one[0] for one in told] == ["drag_started", "layers_drawn", "layers_drawn", "drag_finished"]


def test_an_exact_gain_can_be_typed_beyond_the_curve(
    editor: GainsEditor, told: list[tuple[object, ...]]
) -> None:
    editor.number.selectAll()
    QTest.keyClicks(editor.number, "-3.125")
    QTest.keyClick(editor.number, Qt.Key.Key_Return)
    assert told == [("layers_drawn", "pirate", TARGETS, {0: -3.125})]
    assert editor.isVisible()


def test_only_ticked_targets_are_changed(editor: GainsEditor, told: list[tuple[object, ...]]) -> None:
    editor.boxes["attn_q"].click()
    QTest.keyClick(editor.curve, Qt.Key.Key_0)
    editor.presets["first-third"].click()
    assert told[1] == ("layers_drawn", "pirate", ("ffn_up", "output"), {0: 0.0})
    assert told[3] == ("preset_chosen", "pirate", "first-third", ("ffn_up", "output"))
    editor.set_channel(channel(0.3))  # the same channel keeps its ticks
    ticked = [editor.targets]
    for _ in range(2):
        editor.all_targets.click()
        ticked.append(editor.targets)
    assert ticked == [("ffn_up", "output"), TARGETS, ()]
    assert not editor.presets["all"].isEnabled() and not editor.curve.isEnabled()


def test_a_layer_without_modules_cannot_be_moved(editor: GainsEditor, told: list[tuple[object, ...]]) -> None:
    for target in ("attn_q", "ffn_up"):
        editor.boxes[target].click()
    QTest.keyClick(editor.curve, Qt.Key.Key_Up)
    assert told == []
    assert not editor.number.isEnabled()
    assert editor.curve.accessibleDescription() == "layer 0, nothing acts here"
    QTest.keyClick(editor.curve, Qt.Key.Key_End)
    assert editor.number.isEnabled()


def test_the_grid_says_what_is_under_the_pointer_and_chooses_its_layer(
    editor: GainsEditor, qtbot: QtBot
) -> None:
    grid = editor.grid
    place = column_rect(grid.width(), LAYERS, 2, 0, 0).center().x()
    QTest.mouseMove(grid, QPoint(round(place), grid.row_height // 2))
    assert editor.readout.text() == "layer 2 · attn_q · gain 1"
    QTest.mouseMove(grid, QPoint(round(place), 2 * grid.row_height + 5))
    assert editor.readout.text() == "layer 2 · output · no such module"
    QTest.mouseClick(grid, LEFT, pos=QPoint(round(place), 5))
    assert editor.curve.layer == 2


def test_cells_show_their_gain(editor: GainsEditor) -> None:
    theme, grid = current_theme(), editor.grid
    assert grid.colour_of(0.0) == QColor(theme.panel)
    assert grid.colour_of(1.0) == theme.adapter(0)
    lightness = [grid.colour_of(gain).lightness() for gain in (0.0, 0.5, 1.0, 1.5, 2.0)]
    assert lightness == sorted(lightness, reverse=True)
    assert len(set(lightness)) == 5
    picture = grid.grab().toImage()
    column = column_rect(grid.width(), LAYERS, 1, 0, 0)
    assert picture.pixelColor(round(column.center().x()), grid.row_height // 2) == theme.adapter(0)


def test_every_control_has_a_name(editor: GainsEditor) -> None:
    controls = [
        widget
        for widget in editor.findChildren(QWidget)
        if isinstance(widget, QAbstractButton | QAbstractSpinBox) or widget in (editor.curve, editor.grid)
    ]
    assert len(controls) >= 12
    assert [one for one in controls if not (one.accessibleName() or getattr(one, "text", str)())] == []
