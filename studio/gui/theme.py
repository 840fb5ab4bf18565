"""The look of the desk: explicit light and dark palettes, the font, and the colours that views paint with."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Literal, TypeAlias

import pyqtgraph as pg
from PySide6.QtGui import QColor, QFont, QFontDatabase, QPalette

from studio.gui.shapes import mixed
from studio.gui.style import StudioStyle

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

ThemeName: TypeAlias = Literal["light", "dark"]


@dataclass(frozen=True)
class Theme:
    """The colours of one theme, as ``#rrggbb``.

    Attributes
    ----------
    window, panel, raised
        Grounds: behind everything, of a list or a text, of a button.
    line, text, faint
        Hairlines, text, and text that steps back.
    accent, on_accent
        Selection and the one main button, and the text on it.
    base, blend
        The dry signal and the blend, wherever the two are compared.
    good, warning, danger
        States. Never the only sign of anything: text or a shape says it too.
    adapters
        One colour for each channel, used in turn.
    heat
        The stops of the heatmap's colour map, from nothing to most; lightness alone orders them.
    slopes
        Those of values on both sides of nothing, which is in the middle: from below, where turning up helps,
        to above, where it harms.
    """

    name: ThemeName
    window: str
    panel: str
    raised: str
    line: str
    text: str
    faint: str
    accent: str
    on_accent: str
    base: str
    blend: str
    good: str
    warning: str
    danger: str
    adapters: tuple[str, ...]
    heat: tuple[str, ...]
    slopes: tuple[str, ...]

    def adapter(self, index: int) -> QColor:
        """Return the colour of the channel at an index; they repeat."""
        return QColor(self.adapters[index % len(self.adapters)])


LIGHT = Theme(
    name="light",
    window="#eef0f3",
    panel="#fbfcfd",
    raised="#ffffff",
    line="#d3d8df",
    text="#1c2127",
    faint="#5f6975",
    accent="#2f62c9",
    on_accent="#ffffff",
    base="#8b95a3",
    blend="#2f62c9",
    good="#2c7a4b",
    warning="#8a5c00",
    danger="#c2372e",
    # Okabe and Ito's colour-blind-safe set, darkened for a light ground.
    adapters=("#c77700", "#1f84bd", "#00845f", "#b8578f", "#c24e00", "#5a5fc7", "#857a00"),
    heat=("#fcfdfd", "#cfe6e1", "#7fc1c4", "#3b94b5", "#2a6199", "#243a70", "#14183d"),
    slopes=("#123a7a", "#3f7fc4", "#a9cbe8", "#fcfdfd", "#f2c79b", "#d2751f", "#7a3300"),
)

DARK = Theme(
    name="dark",
    window="#16181c",
    panel="#1d2025",
    raised="#282c33",
    line="#343942",
    text="#e4e7eb",
    faint="#939ca8",
    accent="#5b8def",
    on_accent="#0e1116",
    base="#7c8694",
    blend="#6fa0ff",
    good="#5cb585",
    warning="#d9a441",
    danger="#f07167",
    adapters=("#e69f00", "#56b4e9", "#2fb88e", "#d98cb9", "#e8743b", "#9297f0", "#d6cc4b"),
    heat=("#22262c", "#26374f", "#2a5277", "#2b7593", "#4d9da0", "#94c7ae", "#eef3cf"),
    slopes=("#a9d4ff", "#4d94e0", "#2a4a78", "#22262c", "#6b4424", "#d5822f", "#ffd3a1"),
)

THEMES: dict[ThemeName, Theme] = {"light": LIGHT, "dark": DARK}

_current = LIGHT


def current_theme() -> Theme:
    """Return the theme applied last. Views ask when they paint, so that a change of palette repaints them."""
    return _current


def apply_theme(app: QApplication, name: ThemeName) -> Theme:
    """Give the application the style, the font and the palette of a theme, and views its colours.

    May be called again at any time: every widget gets a ``PaletteChange`` event and repaints.
    """
    global _current
    theme = _current = THEMES[name]
    pg.setConfigOptions(background=theme.panel, foreground=theme.faint, imageAxisOrder="row-major")
    if not isinstance(app.style(), StudioStyle):
        app.setStyle(StudioStyle())
    app.setFont(desk_font(app.font().pointSizeF()))
    app.setPalette(palette_of(theme))
    return theme


def desk_font(point_size: float = -1.0) -> QFont:
    """Return Inter with figures of equal width, so that columns of numbers stand still."""
    if "Inter" not in QFontDatabase.families():
        with as_file(files("fontpkg_inter") / "files") as folder:
            for file in sorted(folder.glob("*.ttf")):
                QFontDatabase.addApplicationFont(str(file))
    font = QFont("Inter")
    font.setFeature(QFont.Tag("tnum"), 1)
    font.setPointSizeF(point_size if point_size > 0 else 10.0)
    return font


def small_font(font: QFont, *, bold: bool = False) -> QFont:
    """Return a font one step smaller, for labels beside what they label."""
    small = QFont(font)
    small.setPointSizeF(font.pointSizeF() * 0.88)
    return strong_font(small) if bold else small


def strong_font(font: QFont) -> QFont:
    """Return a font half-bold, by its weight axis: Qt finds only the regular weight of a variable font."""
    strong = QFont(font)
    strong.setVariableAxis(QFont.Tag("wght"), 620.0)
    return strong


def palette_of(theme: Theme) -> QPalette:
    """Return the Qt palette of a theme, every role of it explicit."""
    role, group = QPalette.ColorRole, QPalette.ColorGroup
    palette = QPalette()
    colours = {
        role.Window: theme.window,
        role.WindowText: theme.text,
        role.Base: theme.panel,
        role.AlternateBase: theme.window,
        role.Text: theme.text,
        role.Button: theme.raised,
        role.ButtonText: theme.text,
        role.BrightText: theme.danger,
        role.ToolTipBase: theme.raised,
        role.ToolTipText: theme.text,
        role.PlaceholderText: theme.faint,
        role.Highlight: theme.accent,
        role.HighlightedText: theme.on_accent,
        role.Accent: theme.accent,
        role.Link: theme.accent,
        role.LinkVisited: theme.accent,
        role.Light: theme.raised,
        role.Midlight: theme.raised,
        role.Mid: theme.line,
        role.Dark: theme.line,
        role.Shadow: theme.line,
    }
    for which, colour in colours.items():
        palette.setColor(which, QColor(colour))
    disabled = mixed(theme.text, theme.window, 0.6)
    for which in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(group.Disabled, which, disabled)
    palette.setColor(group.Disabled, role.Highlight, QColor(theme.line))
    return palette
