"""Every command of the desk as a QAction, and the menus they hang in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QAction, QActionGroup, QKeySequence

from studio.gui.device_menu import DeviceMenu

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PySide6.QtWidgets import QDockWidget, QMainWindow, QMenu

    from studio.gui.settings import ThemeChoice

Key = QKeySequence.StandardKey


class Actions:
    """The commands, to be connected by whoever carries them out."""

    def __init__(self, window: QMainWindow) -> None:
        def action(text: str, keys: QKeySequence.StandardKey | str | None = None) -> QAction:
            made = QAction(text, window)
            if keys is not None:
                made.setShortcuts(
                    QKeySequence.keyBindings(keys) if isinstance(keys, Key) else [QKeySequence(keys)]
                )
            return made

        self.open_base = action("Open &base…", "Ctrl+B")
        self.add_adapter = action("Add &adapter…", "Ctrl+T")
        self.add_adapter_folder = action("Add adapter &folder…", "Ctrl+Shift+T")
        self.add_with_options = action("Add adapter with &options…")
        self.open_session = action("&Open session…", Key.Open)
        self.save = action("&Save session", Key.Save)
        self.save_as = action("Save session &as…", Key.SaveAs)
        self.export = action("&Export…", "Ctrl+E")
        self.quit = action("&Quit", "Ctrl+Q")
        self.undo = action("&Undo", Key.Undo)
        self.redo = action("&Redo", Key.Redo)
        self.copy_command = action("&Copy as command", "Ctrl+Shift+C")
        self.mute_all = action("&Mute all", "Ctrl+M")
        self.unmute_all = action("&Unmute all", "Ctrl+Shift+M")
        self.reset = action("&Reset scales to 1", "Ctrl+R")
        self.clear = action("&Clear the stack")
        self.combine = action("Com&bine…", "Ctrl+Shift+B")
        self.report = action("Adapter re&port", "Ctrl+I")
        self.larger = action("&Larger", Key.ZoomIn)
        self.smaller = action("&Smaller", Key.ZoomOut)
        self.normal_size = action("&Normal", "Ctrl+0")
        self.generate = action("&Generate", "Ctrl+G")
        self.stop = action("&Stop generating", "Ctrl+.")
        self.train = action("&Train an adapter…", "Ctrl+L")
        self.stop_training = action("St&op training", "Ctrl+Shift+L")
        self.find_blend = action("&Find the blend…", "Ctrl+F")
        self.sensitivity = action("&Sensitivity", "Ctrl+Shift+I")
        self.landscape = action("L&andscape…", "Ctrl+Shift+F")
        self.plugin_list = action("Plugin &list")
        self.about = action("&About LoRA Studio")
        self.guide = action("&User guide", Key.HelpContents)

        self.themes: dict[ThemeChoice, QAction] = {}
        group = QActionGroup(window)
        titles: tuple[tuple[ThemeChoice, str], ...] = (
            ("light", "&Light"),
            ("dark", "&Dark"),
            ("system", "As the &system"),
        )
        for choice, title in titles:
            self.themes[choice] = action(title)
            self.themes[choice].setCheckable(True)
            group.addAction(self.themes[choice])


class Menus:
    """The menu bar; the menus whose content changes can be reached by name."""

    def __init__(self, window: QMainWindow, actions: Actions, docks: Iterable[QDockWidget]) -> None:
        bar = window.menuBar()

        file = bar.addMenu("&File")
        _fill(file, actions.open_base, actions.add_adapter, actions.add_adapter_folder, None)
        _fill(file, actions.open_session)
        self.recent = file.addMenu("&Recent files")
        _fill(file, actions.save, actions.save_as, None, actions.export, None, actions.quit)

        _fill(bar.addMenu("&Edit"), actions.undo, actions.redo, None, actions.copy_command)

        stack = bar.addMenu("&Stack")
        _fill(stack, actions.add_with_options, None)
        _fill(stack, actions.mute_all, actions.unmute_all, actions.reset, None, actions.clear)
        _fill(stack, None, actions.combine, actions.report, None, actions.generate, actions.stop)

        learn = bar.addMenu("&Learn")
        _fill(learn, actions.train, actions.stop_training, None)
        _fill(learn, actions.find_blend, actions.sensitivity, actions.landscape)

        self.devices = DeviceMenu(window)
        bar.addMenu(self.devices)

        view = bar.addMenu("&View")
        _fill(view, *(dock.toggleViewAction() for dock in docks), None)
        _fill(view.addMenu("&Theme"), *actions.themes.values())
        _fill(view.addMenu("&Font size"), actions.larger, actions.smaller, actions.normal_size)

        self.plugins = bar.addMenu("&Plugins")
        _fill(self.plugins, actions.plugin_list, None)

        _fill(bar.addMenu("&Help"), actions.guide, actions.about)


def _fill(menu: QMenu, *actions: QAction | None) -> None:
    for action in actions:
        if action is None:
            menu.addSeparator()
        else:
            menu.addAction(action)
