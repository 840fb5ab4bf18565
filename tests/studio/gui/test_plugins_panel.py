"""The plugin list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QGuiApplication

from studio.contracts import PluginStatus
from studio.errors import PluginError
from studio.gui.plugins_panel import PluginsPanel, plugins_summary

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

PLUGINS = (
    PluginStatus("gguf", "0.1", ("loader GGUF", "exporter stacked adapter (GGUF)")),
    PluginStatus("svd", "0.3", (), PluginError("no module named 'scipy'", remedy="Install scipy")),
)


def test_a_failed_plugin_comes_first_with_its_reason(qtbot: QtBot) -> None:
    panel = PluginsPanel()
    qtbot.addWidget(panel)
    panel.set_plugins(PLUGINS)
    first, second = panel.tree.topLevelItem(0), panel.tree.topLevelItem(1)
    assert first is not None
    assert second is not None
    assert [first.text(column) for column in range(3)] == ["svd", "0.3", "failed"]
    assert first.isExpanded()
    assert first.child(0).text(0) == "no module named 'scipy'. Install scipy."
    assert second.text(3) == "loader GGUF, exporter stacked adapter (GGUF)"


def test_the_list_can_be_copied(qtbot: QtBot) -> None:
    panel = PluginsPanel()
    qtbot.addWidget(panel)
    panel.set_plugins(PLUGINS)
    panel.copy_button.click()
    assert QGuiApplication.clipboard().text() == (
        "svd 0.3: failed: no module named 'scipy'. Install scipy.\ngguf 0.1: ok"
    )


def test_summary() -> None:
    assert plugins_summary(PLUGINS) == "1 ok · 1 failed"
    assert plugins_summary(PLUGINS[:1]) == "1 ok"
