"""Keeps the application's theme and font as the user chose them in the View menu."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt

from studio.gui.theme import ThemeName, apply_theme, desk_font

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from studio.gui.actions import Actions
    from studio.gui.settings import Settings, ThemeChoice

NORMAL_SIZE = 10.0
"""The font size of a fresh desk, in points."""


class Appearance(QObject):
    """Applies theme and font size, now and whenever the user or the desktop changes them."""

    def __init__(self, app: QApplication, settings: Settings, commands: Actions, parent: QObject) -> None:
        super().__init__(parent)
        self._app = app
        self._settings = settings
        for choice, action in commands.themes.items():
            action.setChecked(choice == settings.theme)
            action.triggered.connect(lambda _, choice=choice: self.choose_theme(choice))
        commands.larger.triggered.connect(lambda: self.set_font_size(settings.font_size + 1))
        commands.smaller.triggered.connect(lambda: self.set_font_size(settings.font_size - 1))
        commands.normal_size.triggered.connect(lambda: self.set_font_size(NORMAL_SIZE))
        app.styleHints().colorSchemeChanged.connect(self._apply_theme)
        self._apply_theme()
        self.set_font_size(settings.font_size)

    def choose_theme(self, choice: ThemeChoice) -> None:
        """Change the theme for good."""
        self._settings.theme = choice
        self._apply_theme()

    def set_font_size(self, points: float) -> None:
        """Change the font size for good."""
        self._settings.font_size = points
        self._app.setFont(desk_font(self._settings.font_size))

    def _apply_theme(self) -> None:
        choice = self._settings.theme
        dark = self._app.styleHints().colorScheme() is Qt.ColorScheme.Dark
        system: ThemeName = "dark" if dark else "light"
        apply_theme(self._app, system if choice == "system" else choice)
