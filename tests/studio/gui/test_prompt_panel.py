"""The prompt panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QMimeData, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPlainTextEdit

from studio.gui.prompt_panel import PromptPanel

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


@pytest.fixture
def panel(qtbot: QtBot) -> PromptPanel:
    panel = PromptPanel()
    qtbot.addWidget(panel)
    panel.show()
    return panel


def test_setting_a_prompt_emits_nothing(panel: PromptPanel, qtbot: QtBot) -> None:
    with qtbot.assertNotEmitted(panel.prompt_changed):
        panel.set_prompt("The ship", chat=True)
    assert (panel.text, panel.chat) == ("The ship", True)


def test_setting_the_same_text_leaves_the_cursor(panel: PromptPanel) -> None:
    panel.set_prompt("The ship", chat=False)
    cursor = panel.editor.textCursor()
    cursor.setPosition(3)
    panel.editor.setTextCursor(cursor)
    panel.set_prompt("The ship", chat=False)
    assert panel.editor.textCursor().position() == 3


def test_typing_and_the_template_switch_are_announced(panel: PromptPanel, qtbot: QtBot) -> None:
    told: list[tuple[str, bool]] = []
    panel.prompt_changed.connect(lambda text, chat: told.append((text, chat)))
    QTest.keyClicks(panel.editor, "Hi")
    panel.chat_box.click()
    assert told == [("H", False), ("Hi", False), ("Hi", True)]


def test_control_return_generates_and_types_nothing(panel: PromptPanel, qtbot: QtBot) -> None:
    with qtbot.waitSignal(panel.generate_requested):
        QTest.keyClick(panel.editor, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert panel.text == ""


def test_appended_text_is_one_undo_step(panel: PromptPanel) -> None:
    panel.set_prompt("The ship", chat=False)
    panel.insert_text(" sailed")
    assert panel.text == "The ship sailed"
    panel.editor.undo()
    assert panel.text == "The ship"


def test_the_token_count(panel: PromptPanel) -> None:
    panel.set_token_count(1)
    assert panel.count_label.text() == "1 token"
    panel.set_token_count(2100, 2048)
    assert panel.count_label.text() == "2,100 / 2,048 tokens"
    panel.set_token_count(None)
    assert panel.count_label.text() == "– tokens"


def test_no_template_no_switch(panel: PromptPanel) -> None:
    panel.set_chat_available(False)
    assert not panel.chat_box.isEnabled()
    assert "no chat template" in panel.chat_box.toolTip()


def test_a_text_without_spaces_is_not_wrapped(panel: PromptPanel) -> None:
    wrapped, unwrapped = QPlainTextEdit.LineWrapMode.WidgetWidth, QPlainTextEdit.LineWrapMode.NoWrap
    panel.set_prompt("a" * 300_000, False)
    assert panel.editor.lineWrapMode() == unwrapped
    panel.set_prompt("word " * 60_000, False)
    assert panel.editor.lineWrapMode() == wrapped
    pasted = QMimeData()
    pasted.setText("a" * 300_000)
    panel.editor.insertFromMimeData(pasted)
    assert panel.editor.lineWrapMode() == unwrapped
