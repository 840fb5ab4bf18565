"""The window: docks that come and go, menus, themes, and a start and an end as a user has them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QTimer
from PySide6.QtGui import QAction, QColor, QPalette
from PySide6.QtWidgets import QAbstractButton, QAbstractSlider, QApplication, QComboBox, QLabel

from studio.contracts import PanelSpec
from studio.gui.desk import run_desk
from studio.gui.main_window import MainWindow
from studio.gui.pane import SMALLEST
from studio.gui.theme import DARK, apply_theme
from studio.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from studio.gui.desk import Desk


def test_every_dock_closes_and_comes_back_from_the_view_menu(empty_desk: Desk) -> None:
    docks = empty_desk.window.docks
    assert list(docks) == [
        *("stack", "prompt", "next token", "generation", "heatmap"),
        *("training", "jobs", "plugins", "log", "report"),
    ]
    for dock in docks.values():
        dock.close()
        assert not dock.toggleViewAction().isChecked()
        dock.toggleViewAction().trigger()
        assert not dock.isHidden()


def test_the_layout_comes_back(make_desk: Callable[[Registry], Desk], plugins: Registry) -> None:
    first = make_desk(plugins)
    first.window.docks["heatmap"].close()
    first.window.close()
    second = make_desk(plugins)
    assert second.window.docks["heatmap"].isHidden()
    assert not second.window.docks["stack"].isHidden()


def test_no_view_is_squeezed_away_by_a_small_window(empty_desk: Desk, qtbot: QtBot) -> None:
    window = empty_desk.window
    for width, height in ((1440, 900), (1000, 650), (640, 400), (1440, 900)):
        window.resize(width, height)
        qtbot.wait(1)
        for dock in (dock for dock in window.docks.values() if dock.widget().isVisible()):
            assert dock.width() >= SMALLEST.width() and dock.widget().height() >= SMALLEST.height()
    assert window.docks["next token"].width() > 300


def test_a_toast_covers_no_list_and_no_tab(empty_desk: Desk) -> None:
    window = empty_desk.window
    for width in (1440, 1000, 760):
        window.resize(width, 700)
        empty_desk.notices.warn("Something happened that takes a few more words to tell")
        assert window.rect().contains(window.toast.geometry())
        assert window.toast.geometry().bottom() < window.docks["stack"].geometry().top() + 60


def test_an_empty_desk_says_what_comes_first(empty_desk: Desk) -> None:
    heatmap, stack = empty_desk.window.heatmap, empty_desk.window.stack
    assert "Open a base" in heatmap.message_label.text() and not heatmap.plot.isVisible()
    assert stack.add_button.text() == "Open a base first"


def test_no_two_commands_share_a_shortcut(empty_desk: Desk) -> None:
    commands = vars(empty_desk.window.commands).values()
    keys = [
        key.toString() for action in commands if isinstance(action, QAction) for key in action.shortcuts()
    ]
    assert len(keys) == len(set(keys))


def test_every_control_has_a_name_for_screen_readers(desk: Desk) -> None:
    kinds = (QAbstractButton, QAbstractSlider, QComboBox)
    controls = [control for kind in kinds for control in desk.window.findChildren(kind)]
    nameless = [
        control
        for control in controls
        if not control.isHidden()
        and not control.accessibleName()
        and not getattr(control, "text", lambda: "")()
        and not control.objectName().startswith("qt_")
        and "ScrollBar" not in type(control).__name__
    ]
    assert nameless == []


def test_the_theme_is_chosen_for_good(empty_desk: Desk, qapp: QApplication) -> None:
    empty_desk.window.commands.themes["dark"].trigger()
    assert qapp.palette().color(QPalette.ColorRole.Window) == QColor(DARK.window)
    assert empty_desk.settings.theme == "dark"


def test_the_font_grows_and_shrinks(empty_desk: Desk, qapp: QApplication) -> None:
    empty_desk.window.commands.larger.trigger()
    assert qapp.font().pointSizeF() == 11
    empty_desk.window.commands.normal_size.trigger()
    assert qapp.font().pointSizeF() == 10


def test_a_panel_of_a_plugin_is_imported_when_first_shown(
    make_desk: Callable[[Registry], Desk], plugins: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = PanelSpec("Scales", "scales_panel:make")
    desk = make_desk(
        Registry(
            plugins.model_loaders, plugins.adapter_loaders, plugins.exporters, (panel,), plugins.statuses
        )
    )
    module = ModuleType("scales_panel")
    module.make = lambda session: QLabel(f"{len(session.stack)} adapters")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scales_panel", module)  # only now can it be imported
    action = next(action for action in desk.window.menus.plugins.actions() if action.text() == "Scales")
    action.trigger()
    assert [label.text() for label in desk.window.findChildren(QLabel) if label.text() == "0 adapters"]


def test_the_guide_opens(empty_desk: Desk) -> None:
    empty_desk.window.commands.guide.trigger()
    guide = next(window for window in QApplication.topLevelWidgets() if window.windowTitle() == "User guide")
    guide.close()


def test_the_desk_starts_with_a_session_and_ends(
    desk: Desk, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "mine.lorastudio.json"
    desk.session.mark_saved(path)
    desk.sessions.save()
    qtbot.waitUntil(path.exists)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    titles: list[str] = []

    def close_when_open() -> None:
        for window in QApplication.topLevelWidgets():
            if (
                isinstance(window, MainWindow)
                and window is not desk.window
                and "mine" in window.windowTitle()
            ):
                titles.append(window.windowTitle())
                window.close()

    timer = QTimer()
    timer.timeout.connect(close_when_open)
    timer.start(20)
    hook = sys.excepthook
    desk.window.hide()  # the last visible window ends the application
    assert run_desk(path, safe_mode=True) == 0
    timer.stop()
    assert titles == ["mine[*] — LoRA Studio"]
    assert sys.excepthook is hook


def test_the_room_is_shared_out_at_the_first_sight(qapp: QApplication, qtbot: QtBot) -> None:
    window = MainWindow()
    qtbot.addWidget(window)
    window.resize(1440, 900)
    apply_theme(qapp, "dark")
    window.show()
    stack, prompt, token = (window.docks[name] for name in ("stack", "prompt", "next token"))
    qtbot.waitUntil(lambda: stack.width() < token.width() < prompt.width())
    assert window.docks["heatmap"].height() < window.docks["stack"].height()
