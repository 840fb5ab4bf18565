"""What the desk remembers between two runs: theme, font size, window layout and recent files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import platformdirs
from PySide6.QtCore import QByteArray, QSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

ThemeChoice: TypeAlias = Literal["light", "dark", "system"]

RECENT_COUNT = 8
"""How many recent files are kept."""


class Settings:
    """The desk's settings in one small file.

    Parameters
    ----------
    path
        The file; by default ``desk.ini`` in the user's configuration folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        path = path or platformdirs.user_config_path("lora-studio", appauthor=False) / "desk.ini"
        self._store = QSettings(str(path), QSettings.Format.IniFormat)

    @property
    def theme(self) -> ThemeChoice:
        """The theme the user chose; ``system`` follows the desktop."""
        choice = str(self._store.value("theme", "system"))
        return cast("ThemeChoice", choice) if choice in {"light", "dark"} else "system"

    @theme.setter
    def theme(self, choice: ThemeChoice) -> None:
        self._store.setValue("theme", choice)

    @property
    def font_size(self) -> float:
        """The font size in points."""
        try:
            return min(max(float(str(self._store.value("font_size", 10.0))), 7.0), 24.0)
        except ValueError:
            return 10.0

    @font_size.setter
    def font_size(self, points: float) -> None:
        self._store.setValue("font_size", points)

    @property
    def recent(self) -> list[Path]:
        """Files and folders opened lately, the newest first."""
        paths = self._store.value("recent", [])
        return [Path(str(path)) for path in (paths if isinstance(paths, list) else [paths])]

    def remember(self, path: Path) -> None:
        """Put a path first among the recent ones."""
        path = path.absolute()
        self.set_recent([path, *(known for known in self.recent if known != path)])

    def set_recent(self, paths: Sequence[Path]) -> None:
        """Replace the recent paths."""
        self._store.setValue("recent", [str(path) for path in paths[:RECENT_COUNT]])

    @property
    def layout(self) -> tuple[QByteArray, QByteArray] | None:
        """The window's geometry and the docks' places, or None at the first start."""
        geometry, docks = self._store.value("geometry"), self._store.value("docks")
        if isinstance(geometry, QByteArray) and isinstance(docks, QByteArray):
            return geometry, docks
        return None

    @layout.setter
    def layout(self, layout: tuple[QByteArray, QByteArray]) -> None:
        self._store.setValue("geometry", layout[0])
        self._store.setValue("docks", layout[1])
