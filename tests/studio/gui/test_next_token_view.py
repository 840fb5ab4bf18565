"""The next-token view, and how pieces and probabilities are written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest

from studio.gui.next_token_view import Candidate, NextToken, NextTokenView
from studio.gui.pieces import short_probability, visible_piece
from studio.gui.theme import LIGHT

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

RESULT = NextToken(
    candidates=(Candidate(11, " storm", 0.31, 0.12), Candidate(12, "\n", 0.09, 0.22)),
    kl=0.412,
    base_entropy=3.21,
    blend_entropy=2.68,
    milliseconds=41.2,
)


@pytest.fixture
def view(qtbot: QtBot) -> NextTokenView:
    view = NextTokenView()
    qtbot.addWidget(view)
    view.resize(360, 240)
    view.show()
    return view


@pytest.mark.parametrize(
    ("piece", "shown"), [(" storm", "·storm"), ("\n", "⏎"), ("\t", "⇥"), ("", "∅"), ("\x00", "U+0000")]
)
def test_white_space_is_made_visible(piece: str, shown: str) -> None:
    assert visible_piece(piece) == shown


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.31, ".31"), (0.0, ".00"), (0.001, "<.01"), (0.999, "1.0"), (0.994, ".99"), (float("nan"), "nan")],
)
def test_probabilities_are_short(probability: float, shown: str) -> None:
    assert short_probability(probability) == shown


def test_a_result_in_words(view: NextTokenView) -> None:
    view.set_result(RESULT)
    assert view.summary_label.text() == "KL 0.41 nats  ·  H 3.21 → 2.68"
    assert view.time_label.text() == "41 ms"
    first = view.model.index(0)
    assert first.data() == "·storm"
    assert first.data(Qt.ItemDataRole.AccessibleTextRole) == "·storm: base 31.0%, blend 12.0%"


def test_bars_are_drawn_to_a_round_scale(view: NextTokenView) -> None:
    view.set_result(RESULT)
    assert view.model.full_scale == 0.5
    picture = view.list.grab().toImage()
    blend = [x for x in range(picture.width()) if picture.pixelColor(x, 18) == QColor(LIGHT.blend)]
    second = [x for x in range(picture.width()) if picture.pixelColor(x, 18 + 28) == QColor(LIGHT.blend)]
    assert len(second) / len(blend) == pytest.approx(0.22 / 0.12, rel=0.1)


def test_new_numbers_keep_the_selection(view: NextTokenView) -> None:
    view.set_result(RESULT)
    view.list.setCurrentIndex(view.model.index(1))
    view.set_result(RESULT)
    assert view.list.currentIndex().row() == 1


def test_return_hands_the_piece_on(view: NextTokenView, qtbot: QtBot) -> None:
    view.set_result(RESULT)
    view.list.setCurrentIndex(view.model.index(0))
    with qtbot.waitSignal(view.piece_activated) as signal:
        QTest.keyClick(view.list, Qt.Key.Key_Return)
    assert signal.args == [" storm"]


def test_a_message_takes_the_place_of_bars_until_the_next_result(view: NextTokenView) -> None:
    view.set_message("This base cannot run: unknown architecture.")
    assert view.message_label.isVisible()
    view.set_result(RESULT)
    assert view.list.isVisible()
    assert not view.message_label.isVisible()


def test_a_repaint_is_quick(view: NextTokenView) -> None:
    many = NextToken(tuple(Candidate(i, f" word{i}", 0.02, 0.03) for i in range(40)), 0.1, 3.0, 3.0, 40.0)
    view.set_result(many)
    view.list.grab()
    started = time.perf_counter()
    for _ in range(10):
        view.set_result(many)
        view.list.viewport().repaint()
    assert (time.perf_counter() - started) / 10 < 0.02
