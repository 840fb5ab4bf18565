"""The generation panel: streams, marks, controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextCursor
from PySide6.QtTest import QTest

from studio.contracts import Sampling
from studio.gui.generation_panel import GenerationPanel, first_difference

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


@pytest.fixture
def panel(qtbot: QtBot) -> GenerationPanel:
    panel = GenerationPanel()
    qtbot.addWidget(panel)
    panel.show()
    return panel


def marked_text(panel: GenerationPanel) -> str:
    """The part of the blend's text that has a coloured ground."""
    document = panel.streams["blend"].text.document()
    cursor, marked = QTextCursor(document), ""
    for position in range(document.characterCount() - 1):
        cursor.setPosition(position)
        cursor.setPosition(position + 1, QTextCursor.MoveMode.KeepAnchor)
        if cursor.charFormat().background().style() != Qt.BrushStyle.NoBrush:
            marked += cursor.selectedText()
    return marked


@pytest.mark.parametrize(
    ("base", "blend", "ended", "where"),
    [
        (["a", "b"], ["a", "c"], False, 1),
        (["a"], ["a", "c"], False, None),
        (["a"], ["a", "c"], True, 1),
        (["a", "b"], ["a", "b"], True, None),
    ],
)
def test_where_streams_part(base: list[str], blend: list[str], ended: bool, where: int | None) -> None:
    assert first_difference(base, blend, ended=ended) == where


def test_the_blend_is_marked_from_the_first_other_token(panel: GenerationPanel) -> None:
    for piece in (" The", " wind", " turns"):
        panel.append("blend", piece)
    for piece in (" The", " sea"):
        panel.append("base", piece)
    panel.append("blend", " again")
    assert panel.streams["blend"].text.toPlainText() == " The wind turns again"
    assert marked_text(panel) == " wind turns again"


def test_a_longer_blend_is_marked_once_both_ended(panel: GenerationPanel) -> None:
    panel.append("base", "Yes")
    panel.append("blend", "Yes")
    panel.append("blend", " indeed")
    assert marked_text(panel) == ""
    panel.set_running(False)
    assert marked_text(panel) == " indeed"


def test_clear_forgets_text_marks_and_status(panel: GenerationPanel) -> None:
    panel.append("base", "a")
    panel.append("blend", "b")
    panel.set_status("blend", "1 token")
    panel.clear()
    panel.append("blend", "c")
    assert panel.streams["blend"].status_label.text() == ""
    assert panel.streams["blend"].text.toPlainText() == "c"
    assert marked_text(panel) == ""


def test_sampling_is_shown_without_emitting(panel: GenerationPanel, qtbot: QtBot) -> None:
    sampling = Sampling(64, temperature=0.75, top_k=40, top_p=0.9, min_p=0.05, seed=7)
    with qtbot.assertNotEmitted(panel.sampling_changed):
        panel.set_sampling(sampling)
    assert panel.sampling == sampling
    panel.set_sampling(Sampling())
    assert panel.sampling == Sampling()


def test_a_change_is_announced_whole(panel: GenerationPanel, qtbot: QtBot) -> None:
    panel.set_sampling(Sampling(64, temperature=0.5))
    with qtbot.waitSignal(panel.sampling_changed) as signal:
        QTest.keyClicks(panel.controls.seed, "9")
    assert signal.args == [Sampling(64, temperature=0.5, seed=9)]


def test_buttons_follow_the_run(panel: GenerationPanel, qtbot: QtBot) -> None:
    with qtbot.waitSignal(panel.generate_requested):
        panel.generate_button.click()
    panel.set_running(True)
    assert not panel.generate_button.isEnabled()
    with qtbot.waitSignal(panel.stop_requested):
        panel.stop_button.click()
    panel.set_running(False)
    panel.set_enabled(False, "Open a base first")
    assert not panel.generate_button.isEnabled()
    assert panel.generate_button.toolTip() == "Open a base first"


def test_a_value_that_cannot_be_shown_leaves_the_controls_alive(panel: GenerationPanel, qtbot: QtBot) -> None:
    with pytest.raises(OverflowError):
        panel.set_sampling(Sampling(max_tokens=10**12))
    with qtbot.waitSignal(panel.sampling_changed):
        panel.controls.max_tokens.setValue(7)


def test_the_controls_break_into_two_rows_where_one_does_not_fit(
    panel: GenerationPanel, qtbot: QtBot
) -> None:
    def rows() -> int:
        return len({field.y() for _, field in panel.controls.fields})

    panel.resize(900, 300)
    panel.show()
    qtbot.waitUntil(lambda: rows() == 1)
    panel.resize(panel.minimumSizeHint().width(), 300)
    qtbot.waitUntil(lambda: rows() == 2)
    assert panel.width() < 440
