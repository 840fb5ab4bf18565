"""A flood of requests becomes one update a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from studio.gui.frame import FRAME_MS, OncePerFrame

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


def test_many_requests_are_one_update(qtbot: QtBot) -> None:
    updates: list[int] = []
    parent = QObject()
    frame = OncePerFrame(lambda: updates.append(1), parent)
    for _ in range(1000):
        frame.request()
    assert updates == []
    qtbot.waitUntil(lambda: updates == [1])
    frame.request()
    qtbot.waitUntil(lambda: updates == [1, 1])


def test_stopped_it_stays_silent(qtbot: QtBot) -> None:
    updates: list[int] = []
    parent = QObject()
    frame = OncePerFrame(lambda: updates.append(1), parent)
    frame.request()
    frame.stop()
    qtbot.wait(2 * FRAME_MS)
    assert updates == []
