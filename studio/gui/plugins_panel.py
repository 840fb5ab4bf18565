"""The list of plugins: what each provides, and why a failed one failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QSize
from PySide6.QtGui import QColor, QGuiApplication
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from studio.gui.controls import DeskLabel
from studio.gui.theme import current_theme, strong_font

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import PluginStatus

_NAME, _VERSION, _STATE, _PROVIDES = range(4)
_ROW_HEIGHT = 24


class PluginsPanel(QWidget):
    """Shows plugins, the failed ones first and opened, so that the reason is in sight."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._plugins: tuple[PluginStatus, ...] = ()
        self.tree = QTreeWidget()
        self.tree.setAccessibleName("Plugins")
        self.tree.setHeaderLabels(["Plugin", "Version", "State", "Provides"])
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.tree.setAllColumnsShowFocus(True)
        self.tree.setWordWrap(True)
        self.tree.setIndentation(14)
        self.tree.header().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.tree.header().setMinimumSectionSize(72)
        self.tree.header().setStretchLastSection(True)
        self.summary_label = DeskLabel(small=True, quiet=True)
        self.copy_button = QPushButton("Copy list")
        self.copy_button.setAccessibleName("Copy the list of plugins with their errors")
        foot = QHBoxLayout()
        foot.addWidget(self.summary_label, 1)
        foot.addWidget(self.copy_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 8)
        layout.setSpacing(6)
        layout.addWidget(self.tree, 1)
        layout.addLayout(foot)
        self.copy_button.clicked.connect(self._copy)
        self.set_plugins(())

    def set_plugins(self, plugins: Sequence[PluginStatus]) -> None:
        """Show these plugins."""
        self._plugins = tuple(sorted(plugins, key=lambda plugin: (plugin.error is None, plugin.name)))
        self.summary_label.setText(plugins_summary(self._plugins))
        self.copy_button.setEnabled(bool(self._plugins))
        self._fill()

    def _fill(self) -> None:
        theme = current_theme()
        self.tree.clear()
        for plugin in self._plugins:
            item = QTreeWidgetItem([plugin.name, plugin.version, "ok", ", ".join(plugin.provides)])
            item.setToolTip(_PROVIDES, "\n".join(plugin.provides))
            item.setSizeHint(_STATE, QSize(60, _ROW_HEIGHT))
            self.tree.addTopLevelItem(item)
            if plugin.error is None:
                item.setForeground(_STATE, QColor(theme.good))
                continue
            item.setText(_STATE, "failed")
            item.setForeground(_STATE, QColor(theme.danger))
            item.setFont(_NAME, strong_font(self.tree.font()))
            reason = QTreeWidgetItem([str(plugin.error)])
            reason.setForeground(_NAME, QColor(theme.danger))
            reason.setToolTip(_NAME, str(plugin.error))
            reason.setSizeHint(_NAME, QSize(0, _ROW_HEIGHT))
            item.addChild(reason)
            reason.setFirstColumnSpanned(True)
            item.setExpanded(True)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText("\n".join(_line(plugin) for plugin in self._plugins))

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._fill()


def plugins_summary(plugins: Sequence[PluginStatus]) -> str:
    """Return a short count for the status bar, such as ``7 ok · 1 failed``."""
    failed = sum(plugin.error is not None for plugin in plugins)
    return f"{len(plugins) - failed} ok" + (f" · {failed} failed" if failed else "")


def _line(plugin: PluginStatus) -> str:
    state = "ok" if plugin.error is None else f"failed: {plugin.error}"
    return f"{plugin.name} {plugin.version}: {state}"
