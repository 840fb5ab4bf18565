"""What the model will see: masked tokens are grey, learnt ones stand on a ground."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest

from studio.gui.theme import DARK, LIGHT, apply_theme
from studio.gui.token_preview import TokenPreview

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot

CHAT = [("user: ", False), ("hi", False), ("hello", True), (" you", True)]
TEXT = [("Once", False), (" upon", True)]


@pytest.fixture
def preview(qtbot: QtBot) -> TokenPreview:
    preview = TokenPreview()
    qtbot.addWidget(preview)
    preview.show()
    preview.set_sequences([CHAT, TEXT], 1200)
    return preview


def colour_at(preview: TokenPreview, position: int) -> QColor:
    cursor = preview.text.textCursor()
    cursor.setPosition(position)
    return cursor.charFormat().foreground().color()


def test_masked_tokens_step_back_in_both_themes(preview: TokenPreview, qapp: QApplication) -> None:
    for theme in (LIGHT, DARK):
        apply_theme(qapp, theme.name)
        qapp.processEvents()
        assert colour_at(preview, 2) == QColor(theme.faint)
        assert colour_at(preview, len("user: hihel")) == QColor(theme.text)


def test_buttons_go_from_one_to_the_next(preview: TokenPreview) -> None:
    assert preview.caption.text() == "1 of 1,200 · 4 tokens, 2 learnt"
    assert not preview.previous_button.isEnabled()
    QTest.mouseClick(preview.next_button, Qt.MouseButton.LeftButton)
    assert preview.text.toPlainText() == "Once upon" and not preview.next_button.isEnabled()
    QTest.mouseClick(preview.previous_button, Qt.MouseButton.LeftButton)
    assert preview.text.toPlainText() == "user: hihello you"


def test_nothing_to_show_is_empty(preview: TokenPreview) -> None:
    preview.set_sequences([], 0)
    assert preview.text.toPlainText() == "" and preview.caption.text() == ""
    assert not preview.next_button.isEnabled()
