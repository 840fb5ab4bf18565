"""The bridge hands values over to the GUI thread, and drops what was overtaken on the way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from psygnal import Signal

from studio.gui.bridge import Bridge

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


class Worker:
    """Something that speaks from a thread of its own."""

    spoke = Signal(object)

    def say(self, *words: object) -> None:
        def talk() -> None:
            for word in words:
                self.spoke.emit(word)

        thread = threading.Thread(target=talk)
        thread.start()
        thread.join()


def test_a_slot_runs_in_the_gui_thread(qtbot: QtBot) -> None:
    worker, bridge = Worker(), Bridge()
    threads: list[threading.Thread] = []
    bridge.every(worker.spoke, lambda word: threads.append(threading.current_thread()))

    worker.say("hello")
    assert threads == []  # queued: nothing ran in the worker's thread
    qtbot.waitUntil(lambda: threads == [threading.main_thread()])


def test_every_keeps_all_values_in_order(qtbot: QtBot) -> None:
    worker, bridge = Worker(), Bridge()
    heard: list[object] = []
    bridge.every(worker.spoke, heard.append)

    worker.say(1, 2, 2, 3)
    qtbot.waitUntil(lambda: heard == [1, 2, 2, 3])


def test_newest_drops_what_was_overtaken(qtbot: QtBot) -> None:
    worker, bridge = Worker(), Bridge()
    heard: list[object] = []
    bridge.newest(worker.spoke, heard.append)

    worker.say(*range(1000))
    qtbot.waitUntil(lambda: heard == [999])
    worker.say("later")
    qtbot.waitUntil(lambda: heard == [999, "later"])


def test_newest_by_key_keeps_one_of_each(qtbot: QtBot) -> None:
    worker, bridge = Worker(), Bridge()
    heard: list[object] = []
    bridge.newest(worker.spoke, heard.append, key=lambda word: word[0])

    worker.say("a1", "b1", "a2", "a3")
    qtbot.waitUntil(lambda: heard == ["a3", "b1"])


def test_a_closed_bridge_is_silent(qtbot: QtBot) -> None:
    worker, bridge = Worker(), Bridge()
    heard: list[object] = []
    bridge.every(worker.spoke, heard.append)

    worker.say("on its way")
    bridge.close()
    worker.say("too late")
    qtbot.wait(20)
    assert heard == []
