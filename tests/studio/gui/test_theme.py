"""The themes are legible, and applying one reaches every widget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtGui import QColor, QFontMetricsF, QPalette
from PySide6.QtWidgets import QPushButton

from studio.gui.theme import DARK, LIGHT, Theme, apply_theme, current_theme, desk_font

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels: list[float] = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (QColor(colour).redF(), QColor(colour).greenF(), QColor(colour).blueF())
    ]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio as WCAG 2 defines it."""
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_text_is_legible_on_every_ground(theme: Theme) -> None:
    for ground in (theme.window, theme.panel, theme.raised):
        for ink in (theme.text, theme.faint, theme.good, theme.warning, theme.danger):
            assert contrast(ink, ground) >= 4.5, (ink, ground)
    assert contrast(theme.on_accent, theme.accent) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_heat_colours_are_ordered_by_lightness_alone(theme: Theme) -> None:
    ramp = [luminance(stop) for stop in theme.heat]
    assert ramp == sorted(ramp, reverse=theme is LIGHT)


def test_applying_a_theme_changes_palette_and_theme(qapp: QApplication, qtbot: QtBot) -> None:
    button = QPushButton("Generate")
    qtbot.addWidget(button)
    button.show()

    apply_theme(qapp, "dark")
    qapp.processEvents()

    assert current_theme() is DARK
    assert button.palette().color(QPalette.ColorRole.Window) == QColor(DARK.window)
    assert button.grab().toImage().pixelColor(4, 4).lightness() < 80


def test_figures_have_equal_width(qapp: QApplication) -> None:
    metrics = QFontMetricsF(desk_font(10.0))
    assert metrics.horizontalAdvance("1111") == metrics.horizontalAdvance("0000")
