"""The list of plugins: what each provides, and why a failed one failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import PluginStatus


class PluginsPanel(QWidget):
    """Shows plugins, the failed ones first."""

    def set_plugins(self, plugins: Sequence[PluginStatus]) -> None:
        """Show these plugins."""


def plugins_summary(plugins: Sequence[PluginStatus]) -> str:
    """Return a short count for the status bar, such as ``7 plugins · 1 failed``."""
    return ""
