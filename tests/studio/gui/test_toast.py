"""The toast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtWidgets import QWidget

from studio.gui.toast import Toast

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


@pytest.fixture
def toast(qtbot: QtBot) -> Toast:
    window = QWidget()
    qtbot.addWidget(window)
    window.resize(640, 400)
    window.show()
    return Toast(window)


def test_it_sits_inside_the_lower_edge_and_follows_the_window(toast: Toast) -> None:
    toast.show_message("A long message " * 12, "warning", "Details")
    window = toast.window()
    assert window.rect().contains(toast.geometry())
    window.resize(420, 300)
    assert window.rect().contains(toast.geometry())
    assert toast.label.height() >= toast.label.heightForWidth(toast.label.width())


def test_a_message_leaves_by_itself_but_an_error_stays(toast: Toast, qtbot: QtBot) -> None:
    toast.timer.setInterval(10)
    toast.show_message("Saved")
    qtbot.waitUntil(lambda: not toast.isVisible())
    toast.show_message("Could not save", "error")
    qtbot.wait(30)
    assert toast.isVisible()
    toast.close_button.click()
    assert not toast.isVisible()


def test_its_button(toast: Toast, qtbot: QtBot) -> None:
    toast.show_message("Saved")
    assert not toast.action_button.isVisible()
    toast.show_message("Could not save", "error", "Details")
    with qtbot.waitSignal(toast.action_triggered):
        toast.action_button.click()
    assert not toast.isVisible()
