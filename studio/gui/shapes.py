"""The flat shapes the desk's style is drawn with, each from a style option and its palette."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QIcon, QPainter, QPalette, QPen, QPixmap
from PySide6.QtWidgets import (
    QApplication,
    QStyle,
    QStyleOption,
    QStyleOptionDockWidget,
    QStyleOptionProgressBar,
    QStyleOptionSlider,
    QStyleOptionTab,
    QWidget,
)

RADIUS = 4.0
"""Radius of every rounded corner, in logical pixels."""

PRIMARY = "primary"
"""The dynamic property of a window's one main button."""

SHORTEST_THUMB = 28
"""A scroll bar's thumb is never shorter than this, in logical pixels."""

_Role = QPalette.ColorRole


def mixed(first: QColor | str, second: QColor | str, share: float) -> QColor:
    """Return the colour that holds `share` of the second and the rest of the first."""
    a, b = QColor(first), QColor(second)
    return QColor.fromRgbF(
        a.redF() + (b.redF() - a.redF()) * share,
        a.greenF() + (b.greenF() - a.greenF()) * share,
        a.blueF() + (b.blueF() - a.blueF()) * share,
    )


_CROSS = ((4.5, 4.5, 11.5, 11.5), (4.5, 11.5, 11.5, 4.5))
_ARROW_OUT = ((5.0, 11.0, 11.0, 5.0), (6.0, 5.0, 11.0, 5.0), (11.0, 5.0, 11.0, 10.0))
DOCK_SIGNS = {
    QStyle.StandardPixmap.SP_TitleBarCloseButton: _CROSS,
    QStyle.StandardPixmap.SP_DockWidgetCloseButton: _CROSS,
    QStyle.StandardPixmap.SP_TitleBarNormalButton: _ARROW_OUT,
}


def sign_icon(strokes: tuple[tuple[float, float, float, float], ...]) -> QIcon:
    """Return an icon of straight strokes (x1, y1, x2, y2) on a 16 pixel square, sharp at twice the size."""
    pixmap = QPixmap(32, 32)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(2, 2)
    painter.setPen(QPen(QColor("#7f8894"), 1.3, c=Qt.PenCapStyle.RoundCap))
    for x1, y1, x2, y2 in strokes:
        painter.drawLine(QPointF(x1, y1), QPointF(x2, y2))
    painter.end()
    pixmap.setDevicePixelRatio(2.0)
    return QIcon(pixmap)


def scroll_bar_part(option: QStyleOptionSlider, part: QStyle.SubControl) -> QRect:
    """Return the thumb of a scroll bar, or the page before or after it."""
    whole = option.rect
    horizontal = option.orientation == Qt.Orientation.Horizontal
    length = whole.width() if horizontal else whole.height()
    span = option.maximum - option.minimum
    thumb = length
    if span > 0:
        thumb = max(SHORTEST_THUMB, length * option.pageStep // (span + option.pageStep))
        thumb = min(thumb, length)
    start = QStyle.sliderPositionFromValue(
        option.minimum, option.maximum, option.sliderPosition, length - thumb, option.upsideDown
    )
    if part == QStyle.SubControl.SC_ScrollBarSubPage:
        start, thumb = 0, start
    elif part == QStyle.SubControl.SC_ScrollBarAddPage:
        start, thumb = start + thumb, length - start - thumb
    if horizontal:
        return QRect(whole.x() + start, whole.y(), thumb, whole.height())
    return QRect(whole.x(), whole.y() + start, whole.width(), thumb)


def draw_button(option: QStyleOption, painter: QPainter, widget: QWidget | None, *, flat: bool) -> None:
    """Draw a button's ground; a flat one (a tool button) has none until it is hovered, pressed or on."""
    state = QStyle.StateFlag
    enabled, hovered = has_state(option, state.State_Enabled), has_state(option, state.State_MouseOver)
    pressed = has_state(option, state.State_Sunken) or has_state(option, state.State_On)
    if flat and not pressed and not (hovered and enabled):
        return
    fill, line = colour_of(option, _Role.Button), colour_of(option, _Role.Mid)
    if widget is not None and widget.property(PRIMARY) and enabled:
        fill = line = colour_of(option, _Role.Accent)
    if pressed:
        fill = mixed(fill, colour_of(option, _Role.Text), 0.14)
    elif hovered and enabled:
        fill = mixed(fill, colour_of(option, _Role.Text), 0.06)
    if not enabled:
        fill = colour_of(option, _Role.Window)
    if has_state(option, state.State_HasFocus) and has_state(option, state.State_KeyboardFocusChange):
        line = colour_of(option, _Role.Accent)
    draw_rounded(painter, rect_of(option), fill, line)


def on_accent(option: QStyleOption) -> QStyleOption:
    """Return the option of a main button's label with the text colour that its ground asks for."""
    if has_state(option, QStyle.StateFlag.State_Enabled):
        palette = option.palette
        palette.setColor(_Role.ButtonText, colour_of(option, _Role.HighlightedText))
        option.palette = palette
    return option


def draw_field(option: QStyleOption, painter: QPainter) -> None:
    """Draw the ground of something to type in; its line turns to the accent colour with the focus."""
    focused = has_state(option, QStyle.StateFlag.State_HasFocus)
    fill = colour_of(
        option, _Role.Base if has_state(option, QStyle.StateFlag.State_Enabled) else _Role.Window
    )
    draw_rounded(painter, rect_of(option), fill, colour_of(option, _Role.Accent if focused else _Role.Mid))


def draw_check_box(option: QStyleOption, painter: QPainter) -> None:
    """Draw a check box, with its tick if it is on."""
    on = has_state(option, QStyle.StateFlag.State_On)
    enabled = has_state(option, QStyle.StateFlag.State_Enabled)
    accent = colour_of(option, _Role.Accent if enabled else _Role.Mid)
    focused = has_state(option, QStyle.StateFlag.State_HasFocus)
    rect = rect_of(option)
    line = accent if on or focused else colour_of(option, _Role.PlaceholderText if enabled else _Role.Mid)
    draw_rounded(painter, rect, accent if on else colour_of(option, _Role.Base), line, radius=3)
    if on:
        painter.setPen(QPen(colour_of(option, _Role.HighlightedText), 1.8, c=Qt.PenCapStyle.RoundCap))
        x, y, side = rect.x(), rect.y(), rect.width()
        corner = QPointF(x + 0.43 * side, y + 0.70 * side)
        painter.drawLine(QPointF(x + 0.24 * side, y + 0.52 * side), corner)
        painter.drawLine(corner, QPointF(x + 0.77 * side, y + 0.30 * side))


def draw_progress(option: QStyleOptionProgressBar, painter: QPainter) -> None:
    """Draw how far a progress bar is."""
    share = (option.progress - option.minimum) / (option.maximum - option.minimum)
    rect = rect_of(option)
    rect.setWidth(max(2 * RADIUS, rect.width() * share) if share > 0 else 0)
    if share > 0:
        draw_rounded(painter, rect, colour_of(option, _Role.Highlight), None)


def draw_tab(option: QStyleOptionTab, painter: QPainter) -> None:
    """Draw a tab as its text alone; a line in the accent colour runs along the one in front."""
    rect = rect_of(option)
    if has_state(option, QStyle.StateFlag.State_Selected):
        painter.fillRect(rect.adjusted(6, 0, -6, 2 - rect.height()), colour_of(option, _Role.Accent))
    elif has_state(option, QStyle.StateFlag.State_MouseOver):
        painter.fillRect(rect.adjusted(6, 0, -6, 2 - rect.height()), colour_of(option, _Role.Mid))


def draw_dock_title(option: QStyleOptionDockWidget, painter: QPainter) -> None:
    """Draw a dock's title as a small quiet heading over a hairline."""
    painter.save()
    font = QApplication.font()  # the painter's may be that of an earlier style
    font.setPointSizeF(font.pointSizeF() * 0.82)
    font.setVariableAxis(QFont.Tag("wght"), 620.0)
    font.setLetterSpacing(font.SpacingType.AbsoluteSpacing, 0.8)
    painter.setFont(font)
    painter.setPen(colour_of(option, _Role.PlaceholderText))
    rect = option.rect.adjusted(10, 0, -44, 0)
    text = painter.fontMetrics().elidedText(option.title.upper(), Qt.TextElideMode.ElideRight, rect.width())
    painter.drawText(rect, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text)
    painter.restore()


def draw_chevron(option: QStyleOption, painter: QPainter, rect: QRect, *, up: bool) -> None:
    """Draw a small arrow head in the middle of a rectangle."""
    centre, half = QPointF(rect.center()) + QPointF(0.5, 0.5), 3.0
    tip = -half / 2 if up else half / 2
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(colour_of(option, _Role.PlaceholderText), 1.4, c=Qt.PenCapStyle.RoundCap))
    painter.drawLine(centre + QPointF(-half, -tip), centre + QPointF(0, tip))
    painter.drawLine(centre + QPointF(0, tip), centre + QPointF(half, -tip))
    painter.restore()


def draw_rounded(
    painter: QPainter, rect: QRectF, fill: QColor | None, line: QColor | None, radius: float = RADIUS
) -> None:
    """Draw a rounded rectangle on whole pixels."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen if line is None else QPen(line, 1))
    painter.setBrush(Qt.BrushStyle.NoBrush if fill is None else fill)
    inset = 0.0 if line is None else 0.5
    painter.drawRoundedRect(rect.adjusted(inset, inset, -inset, -inset), radius, radius)
    painter.restore()


def has_frame(widget: QWidget) -> bool:
    """Say whether a line edit draws a field of its own: not inside a spin box or a combo box."""
    return bool(widget.property("frame")) if widget.property("frame") is not None else True


def rect_of(option: QStyleOption) -> QRectF:
    """Return where to draw."""
    return QRectF(option.rect)


def colour_of(option: QStyleOption, role: QPalette.ColorRole) -> QColor:
    """Return the palette's colour for a role, in the option's state."""
    return option.palette.color(role)


def has_state(option: QStyleOption, flag: QStyle.StateFlag) -> bool:
    """Say whether the option has a state."""
    return bool(option.state & flag)
