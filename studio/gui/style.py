"""The desk's widget style: Fusion, with its bevels and gradients replaced by flat shapes in palette colours."""

from __future__ import annotations

from PySide6.QtWidgets import QProxyStyle


class StudioStyle(QProxyStyle):
    """Draws what Fusion draws, flat."""

    def __init__(self) -> None:
        super().__init__("Fusion")
