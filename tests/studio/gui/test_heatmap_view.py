"""The heatmap: range, faults, selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QImage
from PySide6.QtTest import QTest

from studio.gui.colour_scale import colour_table
from studio.gui.heatmap_view import HeatmapView
from studio.gui.theme import DARK, LIGHT, apply_theme

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot

    from studio.contracts import FloatArray

TARGETS = ("attn_q", "attn_v", "ffn_up")


@pytest.fixture
def view(qtbot: QtBot) -> HeatmapView:
    view = HeatmapView()
    qtbot.addWidget(view)
    view.resize(640, 240)
    view.set_modes([("norm", "Weight norm"), ("relative", "Relative")], "norm")
    view.set_grid(TARGETS, 8)
    view.show()
    qtbot.waitExposed(view)
    return view


@pytest.fixture
def values() -> FloatArray:
    return np.arange(24, dtype=np.float32).reshape(3, 8)


def picture(view: HeatmapView) -> QImage:
    image: QImage = view.plot.grab().toImage()
    return image


def colour_of(view: HeatmapView, row: int, column: int) -> QColor:
    return picture(view).pixelColor(view.plot.centre_of(row, column).toPoint())


def test_colours_run_from_the_first_stop_to_the_last(view: HeatmapView, values: FloatArray) -> None:
    view.set_values(values)
    assert view.range == (0.0, 23.0)
    assert colour_of(view, 0, 0) == QColor(LIGHT.heat[0])
    assert colour_of(view, 2, 7) == QColor(LIGHT.heat[-1])


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf])
def test_a_picture_without_a_range_is_the_calm_colour_or_marked(view: HeatmapView, fill: float) -> None:
    view.set_values(np.full((3, 8), fill, np.float32))
    assert view.range == (0.0, 0.0)
    seen = colour_of(view, 1, 3)
    assert seen == QColor(LIGHT.heat[0] if fill == 0.0 else LIGHT.danger)


def test_a_fault_leaves_the_range_alone(view: HeatmapView, values: FloatArray) -> None:
    values[1, 2] = np.nan
    values[1, 3] = np.inf
    view.set_values(values)
    assert view.range == (0.0, 23.0)
    assert colour_of(view, 1, 2) == colour_of(view, 1, 3) == QColor(LIGHT.danger)


def test_absent_modules_are_left_blank(view: HeatmapView, values: FloatArray) -> None:
    absent = np.zeros((3, 8), np.bool_)
    absent[2, 7] = True
    view.set_values(values, absent=absent)
    assert view.range == (0.0, 22.0)
    assert colour_of(view, 2, 7) == QColor(LIGHT.window)


def test_a_held_range_stays(view: HeatmapView, values: FloatArray) -> None:
    view.set_values(values)
    view.hold_box.setChecked(True)
    view.set_values(values * 0.5)
    assert view.range == (0.0, 23.0)
    view.hold_box.setChecked(False)
    assert view.range == (0.0, 11.5)


def test_another_measure_lets_the_range_go(view: HeatmapView, qtbot: QtBot, values: FloatArray) -> None:
    view.set_values(values)
    view.hold_box.setChecked(True)
    with qtbot.waitSignal(view.mode_changed) as signal:
        QTest.keyClick(view.mode_box, Qt.Key.Key_Down)
    assert signal.args == ["relative"]
    assert not view.hold_box.isChecked()


def test_offering_modes_emits_nothing(view: HeatmapView, qtbot: QtBot) -> None:
    with qtbot.assertNotEmitted(view.mode_changed):
        view.set_modes([("norm", "Weight norm"), ("adapter:1", "pirate")], "adapter:1")
    assert view.mode_box.currentText() == "pirate"


def test_hover_and_click(view: HeatmapView, qtbot: QtBot, values: FloatArray) -> None:
    view.set_values(values, unit="‖Δ‖")
    at: QPoint = view.plot.centre_of(1, 5).toPoint()
    QTest.mouseMove(view.plot.viewport(), at)
    qtbot.waitUntil(lambda: view.readout.text() == "layer 5 · attn_v · 13 ‖Δ‖")
    with qtbot.waitSignal(view.module_selected) as signal:
        QTest.mouseClick(view.plot.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert signal.args == ["attn_v", 5]


def test_arrow_keys_walk_the_cells_and_stop_at_the_edge(view: HeatmapView, qtbot: QtBot) -> None:
    told: list[tuple[str, int]] = []
    view.module_selected.connect(lambda target, layer: told.append((target, layer)))
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Up, Qt.Key.Key_Up):
        QTest.keyClick(view.plot, key)
    assert told == [("attn_q", 0), ("attn_q", 1), ("attn_v", 1), ("attn_q", 1), ("attn_q", 1)]


def test_selecting_from_outside_emits_nothing(view: HeatmapView, qtbot: QtBot, values: FloatArray) -> None:
    view.set_values(values)
    with qtbot.assertNotEmitted(view.module_selected):
        view.set_selected("ffn_up", 3)
    assert view.readout.text() == "layer 3 · ffn_up · 19"
    view.set_selected("output", 0)
    assert view.readout.text() == ""


def test_values_of_another_shape_are_refused(view: HeatmapView) -> None:
    with pytest.raises(ValueError, match=r"\(2, 8\)"):
        view.set_values(np.zeros((2, 8), np.float32))


def test_the_picture_follows_the_theme(view: HeatmapView, values: FloatArray, qapp: QApplication) -> None:
    view.set_values(values)
    apply_theme(qapp, "dark")
    qapp.processEvents()
    assert colour_of(view, 2, 7) == QColor(DARK.heat[-1])
    assert picture(view).pixelColor(1, 1) == QColor(DARK.window)


def test_the_colour_table_holds_its_stops() -> None:
    table = colour_table(("#000000", "#ff0000", "#ffffff"))
    assert table.shape == (256, 4)
    assert table[0].tolist() == [0, 0, 0, 255]
    assert table[-1].tolist() == [255, 255, 255, 255]


def test_diverging_values_have_nothing_in_the_middle(view: HeatmapView, values: FloatArray) -> None:
    view.set_values(values - 6, diverging=True)  # -6 to 17
    assert view.range == (-17.0, 17.0)
    assert colour_of(view, 2, 7) == QColor(LIGHT.slopes[-1])
    assert colour_of(view, 0, 6).lightness() >= QColor(LIGHT.slopes[3]).lightness() - 2
    below, above = colour_of(view, 0, 0), colour_of(view, 1, 4)  # -6 and 6
    assert below.blue() > below.red() and above.red() > above.blue()
    view.set_values(values)
    assert view.range == (0.0, 23.0)


def test_what_is_measured_on_demand_can_be_refreshed(view: HeatmapView, qtbot: QtBot) -> None:
    assert view.refresh_button.isHidden()
    view.set_refresh(True, "measuring …")
    assert view.readout.text() == "measuring …"
    with qtbot.waitSignal(view.refresh_requested):
        QTest.mouseClick(view.refresh_button, Qt.MouseButton.LeftButton)
    view.set_refresh(False)
    assert view.refresh_button.isHidden() and view.readout.text() == ""
