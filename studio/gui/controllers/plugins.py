"""The plugin list and the panels of plugins, which are imported when they are first shown."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QDockWidget, QWidget

from studio.errors import PluginError
from studio.gui.plugins_panel import plugins_summary

if TYPE_CHECKING:
    from studio.contracts import PanelSpec, Plugins
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.session.session import Session


class PluginsController(QObject):
    """Lists the plugins and opens their panels."""

    def __init__(
        self, session: Session, plugins: Plugins, window: MainWindow, notices: Notices, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._window = window
        self._notices = notices
        self._docks: dict[str, QDockWidget] = {}
        window.plugins.set_plugins(plugins.statuses)
        window.set_plugins_summary(f"Plugins {plugins_summary(plugins.statuses)}")
        window.commands.plugin_list.triggered.connect(self._show_list)
        for panel in plugins.panels:
            action = window.menus.plugins.addAction(panel.name)
            action.triggered.connect(lambda _, panel=panel: self.open_panel(panel))
        for status in plugins.statuses:
            if status.error is not None:
                notices.error(f"The plugin {status.name} failed", status.error)

    def open_panel(self, panel: PanelSpec) -> None:
        """Show a plugin's panel; a factory that fails is reported and leaves the desk as it was."""
        dock = self._docks.get(panel.name)
        if dock is None:
            try:
                widget = make_panel(panel, self._session)
            except Exception as error:  # a stranger's code: whatever it raises is its failure, not ours
                self._notices.error(f"The panel {panel.name} failed", error)
                return
            dock = self._docks[panel.name] = self._window.add_panel(panel.name, widget)
        dock.show()
        dock.raise_()

    def _show_list(self) -> None:
        dock = self._window.docks["plugins"]
        dock.show()
        dock.raise_()


def make_panel(panel: PanelSpec, session: Session) -> QWidget:
    """Import a panel's factory and call it with the session.

    Raises
    ------
    PluginError
        If the factory is not of the form ``module:name`` or gives no widget.
    """
    module, _, name = panel.factory.partition(":")
    if not module or not name:
        raise PluginError(f"{panel.factory!r} is not of the form module:factory", where=panel.name)
    widget = getattr(importlib.import_module(module), name)(session)
    if not isinstance(widget, QWidget):
        raise PluginError(f"{panel.factory} returned {type(widget).__name__}, not a widget", where=panel.name)
    return widget
