"""Small controls: labels that follow the font, numbers as they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QVBoxLayout, QWidget

from studio.gui.controls import DeskLabel, LetterButton, NumberBox

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


def test_a_small_label_grows_with_its_parents_font(qtbot: QtBot) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    label = DeskLabel("18 tokens", small=True)
    QVBoxLayout(parent).addWidget(label)
    before = label.sizeHint()
    font = parent.font()
    font.setPointSizeF(font.pointSizeF() * 2)
    parent.setFont(font)
    assert label.sizeHint().width() == pytest.approx(2 * before.width(), rel=0.1)


def test_an_elided_label_never_widens_its_panel(qtbot: QtBot) -> None:
    label = DeskLabel("a-very-long-name-of-an-adapter" * 4, elided=True)
    qtbot.addWidget(label)
    assert label.minimumSizeHint().width() == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8, "0.80"), (-1.25, "-1.25"), (7.123, "7.123"), (0.00004, "0.00"), (-0.00001, "0.00")],
)
def test_numbers_have_two_decimals_or_as_many_as_they_need(qtbot: QtBot, value: float, text: str) -> None:
    box = NumberBox("Scale", -10.0, 10.0, 0.05)
    qtbot.addWidget(box)
    box.setValue(value)
    assert box.text() == text


def test_a_letter_button_knows_of_shift_during_its_click(qtbot: QtBot) -> None:
    button = LetterButton("S", "good", "Solo")
    qtbot.addWidget(button)
    seen: list[bool] = []
    button.clicked.connect(lambda _: seen.append(button.clicked_with_shift))
    QTest.mouseClick(button, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert seen == [True, False]
