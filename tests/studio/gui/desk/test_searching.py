"""Finding the blend on the desk: examples are written, the sliders move in one step, and it says what for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QCheckBox, QSpinBox

from studio.contracts import EVEN
from studio.learning.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from studio.gui.desk import Desk
    from studio.gui.search_dialog import SearchDialog

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def dialog(desk: Desk, qtbot: QtBot, write_adapter: Callable[..., Path]) -> SearchDialog:
    """The search beside a desk with two adapters, and one example."""
    desk.models.add_adapter(write_adapter("second.gguf", seed=2))
    qtbot.waitUntil(lambda: len(desk.session.stack.by_key) == 2)
    desk.window.commands.find_blend.trigger()
    dialog = desk.searching.dialog
    assert dialog.isVisible() and not dialog.start_button.isEnabled()
    QTest.keyClicks(dialog.editor.text, "general kenobi")
    assert dialog.editor.wanted == (Wanted("general kenobi", "hello there"),)  # after the desk's prompt
    return dialog


def test_the_sliders_move_in_one_step_and_the_loss_is_told(
    desk: Desk, qtbot: QtBot, dialog: SearchDialog
) -> None:
    before = desk.session.stack.state
    QTest.mouseClick(dialog.start_button, LEFT)
    assert dialog.stop_button.isEnabled() and not dialog.start_button.isEnabled()
    qtbot.waitUntil(lambda: desk.session.stack.state != before and dialog.start_button.isEnabled())
    facts = dict(dialog.facts.facts)
    losses = [float(text) for text in facts["Loss"].removesuffix(" nats a token").split(" → ")]
    assert losses[1] < losses[0]
    assert f"{before.channels[0].scale:.2f} → " in facts["adapter"]
    assert "goes from" in desk.window.toast.label.text()
    qtbot.waitUntil(
        lambda: (
            desk.window.stack.rows["adapter"].number.value() == desk.session.stack.channel("adapter").scale
        )
    )
    desk.session.history.undo()
    assert desk.session.stack.state == before
    desk.session.history.undo()
    assert len(desk.session.stack.by_key) == 1  # the search was one step


def test_gains_by_layer_are_found_too(desk: Desk, qtbot: QtBot, dialog: SearchDialog) -> None:
    gains, steps = dialog.form.findChild(QCheckBox, "gains"), dialog.form.findChild(QSpinBox, "steps")
    assert gains is not None and steps is not None
    gains.setChecked(True)
    steps.setValue(8)
    QTest.mouseClick(dialog.start_button, LEFT)
    qtbot.waitUntil(lambda: desk.session.stack.channel("adapter").gains != EVEN)
    assert "× gains" in dict(dialog.facts.facts)["adapter"]


def test_nothing_is_sought_where_nothing_is_heard(desk: Desk, dialog: SearchDialog) -> None:
    assert dialog.start_button.isEnabled()
    desk.window.commands.mute_all.trigger()
    assert not dialog.start_button.isEnabled() and "unmute" in dialog.start_button.toolTip()


def test_examples_are_added_chosen_and_removed(desk: Desk, dialog: SearchDialog) -> None:
    editor = dialog.editor
    QTest.mouseClick(editor.add_button, LEFT)
    QTest.keyClicks(editor.text, "a text alone")
    assert [editor.list.item(row).text() for row in range(2)] == [
        "hello there → general kenobi",
        "a text alone",
    ]
    QTest.keyClick(editor.list, Qt.Key.Key_Up)
    assert editor.text.toPlainText() == "general kenobi"
    QTest.mouseClick(editor.remove_button, LEFT)
    assert [one.text for one in editor.wanted] == ["a text alone"]
    assert desk.wanted.wanted == editor.wanted == desk.landscape.dialog.editor.wanted
    QTest.mouseClick(editor.remove_button, LEFT)
    assert editor.wanted == () and not dialog.start_button.isEnabled()
    assert desk.wanted.wanted == (Wanted("hello there"),)  # without examples the prompt stands in
