"""The Engine menu lists devices with their free memory, and says why one cannot be chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QMainWindow

from studio.gui.device_menu import DeviceLine, DeviceMenu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytestqt.qtbot import QtBot


@pytest.fixture
def menu(qtbot: QtBot) -> Iterator[DeviceMenu]:
    window = QMainWindow()
    qtbot.addWidget(window)
    menu = DeviceMenu(window)
    window.menuBar().addMenu(menu)
    menu.set_devices(
        [
            DeviceLine("numpy", "CPU", 12_300_000_000),
            DeviceLine("cupy:0", "Fast & Large", 139_000_000_000),
            DeviceLine("cupy:1", "GPU 1", obstacle="it is taken"),
        ]
    )
    window.show()
    yield menu  # while the window lives


def test_every_device_says_what_is_free_or_why_not(menu: DeviceMenu) -> None:
    assert [action.text() for action in menu.devices.values()] == [
        "&Automatic",
        "&1  CPU — 12.3 GB free",
        "&2  Fast && Large — 139.0 GB free",
        "&3  GPU 1 — it is taken",
    ]
    assert [action.isEnabled() for action in menu.devices.values()] == [True, True, True, False]


def test_a_choice_is_checked_once_it_is_so(menu: DeviceMenu, qtbot: QtBot) -> None:
    with qtbot.waitSignal(menu.device_chosen) as chosen:
        menu.devices["cupy:0"].trigger()
    assert chosen.args == ["cupy:0"]
    assert menu.devices["auto"].isChecked() and not menu.devices["cupy:0"].isChecked()
    menu.set_choice("cupy:0", "quantised")
    assert [name for name, action in menu.devices.items() if action.isChecked()] == ["cupy:0"]
    menu.set_devices([DeviceLine("numpy", "CPU"), DeviceLine("cupy:0", "Fast", 1)])
    assert menu.devices["cupy:0"].isChecked() and menu.weights["quantised"].isChecked()


def test_every_line_has_a_key_of_its_own(menu: DeviceMenu) -> None:
    for actions in (menu.actions(), menu.weights_menu.actions()):
        keys = [
            QKeySequence.mnemonic(action.text()).toString() for action in actions if not action.isSeparator()
        ]
        assert all(keys) and len(set(keys)) == len(keys)
    assert QKeySequence.mnemonic(menu.title()).toString() == "Alt+N"


def test_the_menus_have_names_for_screen_readers(menu: DeviceMenu) -> None:
    assert menu.accessibleName() == "Engine" and menu.weights_menu.accessibleName() == "Weights"
