"""The heartbeat notices when the GUI thread is held up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from studio.gui.heartbeat import Heartbeat

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


def test_it_measures_the_longest_stall(qtbot: QtBot) -> None:
    heartbeat = Heartbeat()
    heartbeat.start()
    qtbot.wait(20)
    time.sleep(0.2)
    qtbot.wait(20)
    assert 200 <= heartbeat.stop() < 2000


def test_a_new_start_forgets_the_old_stall(qtbot: QtBot) -> None:
    heartbeat = Heartbeat()
    heartbeat.start()
    time.sleep(0.2)
    heartbeat.stop()
    heartbeat.start()
    assert heartbeat.stop() < 200
