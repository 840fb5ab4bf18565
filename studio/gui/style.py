"""The desk's widget style: Fusion with its bevels and gradients replaced by flat shapes."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QIcon, QPainter, QPalette, QPen, QPixmap
from PySide6.QtWidgets import (
    QApplication,
    QProxyStyle,
    QStyle,
    QStyleHintReturn,
    QStyleOption,
    QStyleOptionComboBox,
    QStyleOptionComplex,
    QStyleOptionDockWidget,
    QStyleOptionProgressBar,
    QStyleOptionSlider,
    QStyleOptionSpinBox,
    QStyleOptionTab,
    QWidget,
)

RADIUS = 4.0
"""Radius of every rounded corner, in logical pixels."""

PRIMARY = "primary"
"""The dynamic property of a window's one main button."""

_Primitive = QStyle.PrimitiveElement
_Control = QStyle.ControlElement
_Complex = QStyle.ComplexControl
_Metric = QStyle.PixelMetric
_Role = QPalette.ColorRole

_NOT_DRAWN = (
    _Primitive.PE_FrameDockWidget,
    _Primitive.PE_FrameStatusBarItem,
    _Primitive.PE_FrameTabBarBase,
)

_METRICS = {
    _Metric.PM_ScrollBarExtent: 10,
    _Metric.PM_ScrollBarSliderMin: 28,
    _Metric.PM_SplitterWidth: 5,
    _Metric.PM_DockWidgetSeparatorExtent: 5,
    _Metric.PM_DockWidgetTitleMargin: 5,
    _Metric.PM_ButtonShiftHorizontal: 0,
    _Metric.PM_ButtonShiftVertical: 0,
    _Metric.PM_LayoutHorizontalSpacing: 8,
    _Metric.PM_LayoutVerticalSpacing: 8,
}


class StudioStyle(QProxyStyle):
    """Draws the common controls flat; everything else is Fusion's."""

    def __init__(self) -> None:
        super().__init__("Fusion")

    def drawPrimitive(
        self,
        element: QStyle.PrimitiveElement,
        option: QStyleOption,
        painter: QPainter,
        widget: QWidget | None = None,
    ) -> None:
        """Draw buttons, text fields, check boxes, frames and the focus ring."""
        if element in (_Primitive.PE_PanelButtonCommand, _Primitive.PE_PanelButtonTool):
            _draw_button(option, painter, widget, flat=element == _Primitive.PE_PanelButtonTool)
        elif element == _Primitive.PE_PanelLineEdit:
            if widget is None or _has_frame(widget):
                _draw_field(option, painter)
        elif element == _Primitive.PE_IndicatorCheckBox:
            _draw_check_box(option, painter)
        elif element == _Primitive.PE_Frame:
            painter.setPen(QPen(_colour(option, _Role.Mid), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(option.rect.adjusted(0, 0, -1, -1))
        elif element == _Primitive.PE_FrameFocusRect:
            _rounded(painter, _rect(option), None, _colour(option, _Role.Accent))
        elif element in _NOT_DRAWN:
            return
        else:
            super().drawPrimitive(element, option, painter, widget)

    def drawControl(
        self,
        element: QStyle.ControlElement,
        option: QStyleOption,
        painter: QPainter,
        widget: QWidget | None = None,
    ) -> None:
        """Draw progress bars, dock titles, splitters and the label of a main button."""
        if element == _Control.CE_ProgressBarGroove:
            _rounded(painter, _rect(option), _colour(option, _Role.Mid), None)
        elif element == _Control.CE_ProgressBarContents and isinstance(option, QStyleOptionProgressBar):
            if option.maximum > option.minimum:
                _draw_progress(option, painter)
            else:  # how far is not known
                half = mixed(_colour(option, _Role.Mid), _colour(option, _Role.Accent), 0.5)
                _rounded(painter, _rect(option), half, None)
        elif element == _Control.CE_DockWidgetTitle and isinstance(option, QStyleOptionDockWidget):
            _draw_dock_title(option, painter)
        elif element == _Control.CE_PushButtonLabel and widget is not None and widget.property(PRIMARY):
            super().drawControl(element, _on_accent(option), painter, widget)
        elif element == _Control.CE_TabBarTabShape and isinstance(option, QStyleOptionTab):
            _draw_tab(option, painter)
        elif element == _Control.CE_Splitter:
            return
        else:
            super().drawControl(element, option, painter, widget)

    def drawComplexControl(
        self,
        control: QStyle.ComplexControl,
        option: QStyleOptionComplex,
        painter: QPainter,
        widget: QWidget | None = None,
    ) -> None:
        """Draw spin boxes, combo boxes and scroll bars."""
        if control == _Complex.CC_SpinBox and isinstance(option, QStyleOptionSpinBox):
            if option.frame:
                _draw_field(option, painter)
            for part in (QStyle.SubControl.SC_SpinBoxUp, QStyle.SubControl.SC_SpinBoxDown):
                if option.subControls & part:
                    rect = self.subControlRect(control, option, part, widget)
                    _draw_chevron(option, painter, rect, up=part == QStyle.SubControl.SC_SpinBoxUp)
        elif control == _Complex.CC_ComboBox and isinstance(option, QStyleOptionComboBox):
            _draw_button(option, painter, widget, flat=not option.frame)
            rect = self.subControlRect(control, option, QStyle.SubControl.SC_ComboBoxArrow, widget)
            _draw_chevron(option, painter, rect, up=False)
        elif control == _Complex.CC_ScrollBar and isinstance(option, QStyleOptionSlider):
            self._draw_scroll_bar(option, painter, widget)
        else:
            super().drawComplexControl(control, option, painter, widget)

    def subControlRect(
        self,
        control: QStyle.ComplexControl,
        option: QStyleOptionComplex,
        part: QStyle.SubControl,
        widget: QWidget | None = None,
    ) -> QRect:
        """Give a scroll bar its whole length: it has no arrow buttons."""
        rect = super().subControlRect(control, option, part, widget)  # type: ignore[arg-type]
        if control != _Complex.CC_ScrollBar or not isinstance(option, QStyleOptionSlider):
            return rect
        whole: QRect = option.rect
        if part in (QStyle.SubControl.SC_ScrollBarAddLine, QStyle.SubControl.SC_ScrollBarSubLine):
            return QRect()
        if part == QStyle.SubControl.SC_ScrollBarGroove:
            return whole
        return _scroll_bar_part(option, part) if part in _SCROLL_PARTS else rect

    def _draw_scroll_bar(self, option: QStyleOptionSlider, painter: QPainter, widget: QWidget | None) -> None:
        painter.fillRect(option.rect, _colour(option, _Role.Window))
        part = QStyle.SubControl.SC_ScrollBarSlider
        thumb = QRectF(self.subControlRect(_Complex.CC_ScrollBar, option, part, widget)).adjusted(
            3, 3, -3, -3
        )
        hovered = _is(option, QStyle.StateFlag.State_MouseOver) or _is(option, QStyle.StateFlag.State_Sunken)
        colour = _colour(option, _Role.PlaceholderText if hovered else _Role.Mid)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        painter.drawRoundedRect(thumb, 2, 2)

    def standardIcon(
        self,
        standardIcon: QStyle.StandardPixmap,  # noqa: N803 - Qt's name
        option: QStyleOption | None = None,
        widget: QWidget | None = None,
    ) -> QIcon:
        """Return thin signs for a dock's two buttons, in a grey that light and dark share."""
        sign = _DOCK_SIGNS.get(standardIcon)
        return super().standardIcon(standardIcon, option, widget) if sign is None else _sign_icon(sign)

    def pixelMetric(
        self,
        metric: QStyle.PixelMetric,
        option: QStyleOption | None = None,
        widget: QWidget | None = None,
    ) -> int:
        """Return the desk's measures where they differ from Fusion's."""
        own = _METRICS.get(metric)
        return own if own is not None else super().pixelMetric(metric, option, widget)

    def styleHint(
        self,
        hint: QStyle.StyleHint,
        option: QStyleOption | None = None,
        widget: QWidget | None = None,
        returnData: QStyleHintReturn | None = None,  # noqa: N803 - Qt's name
    ) -> int:
        """Let a click in a scroll bar jump there, and keep dock buttons flat."""
        if hint == QStyle.StyleHint.SH_ScrollBar_LeftClickAbsolutePosition:
            return 1
        if hint == QStyle.StyleHint.SH_DockWidget_ButtonsHaveFrame:
            return 0
        return super().styleHint(hint, option, widget, returnData)


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
_DOCK_SIGNS = {
    QStyle.StandardPixmap.SP_TitleBarCloseButton: _CROSS,
    QStyle.StandardPixmap.SP_DockWidgetCloseButton: _CROSS,
    QStyle.StandardPixmap.SP_TitleBarNormalButton: _ARROW_OUT,
}

_SCROLL_PARTS = (
    QStyle.SubControl.SC_ScrollBarSlider,
    QStyle.SubControl.SC_ScrollBarAddPage,
    QStyle.SubControl.SC_ScrollBarSubPage,
)


def _sign_icon(strokes: tuple[tuple[float, float, float, float], ...]) -> QIcon:
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


def _scroll_bar_part(option: QStyleOptionSlider, part: QStyle.SubControl) -> QRect:
    """Return the thumb of a scroll bar, or the page before or after it."""
    whole = option.rect
    horizontal = option.orientation == Qt.Orientation.Horizontal
    length = whole.width() if horizontal else whole.height()
    span = option.maximum - option.minimum
    thumb = length
    if span > 0:
        thumb = max(
            _METRICS[_Metric.PM_ScrollBarSliderMin], length * option.pageStep // (span + option.pageStep)
        )
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


def _draw_button(option: QStyleOption, painter: QPainter, widget: QWidget | None, *, flat: bool) -> None:
    """Draw a button's ground; a flat one (a tool button) has none until it is hovered, pressed or on."""
    state = QStyle.StateFlag
    enabled, hovered = _is(option, state.State_Enabled), _is(option, state.State_MouseOver)
    pressed = _is(option, state.State_Sunken) or _is(option, state.State_On)
    if flat and not pressed and not (hovered and enabled):
        return
    fill, line = _colour(option, _Role.Button), _colour(option, _Role.Mid)
    if widget is not None and widget.property(PRIMARY) and enabled:
        fill = line = _colour(option, _Role.Accent)
    if pressed:
        fill = mixed(fill, _colour(option, _Role.Text), 0.14)
    elif hovered and enabled:
        fill = mixed(fill, _colour(option, _Role.Text), 0.06)
    if not enabled:
        fill = _colour(option, _Role.Window)
    if _is(option, state.State_HasFocus) and _is(option, state.State_KeyboardFocusChange):
        line = _colour(option, _Role.Accent)
    _rounded(painter, _rect(option), fill, line)


def _on_accent(option: QStyleOption) -> QStyleOption:
    """Return the option of a main button's label with the text colour that its ground asks for."""
    if _is(option, QStyle.StateFlag.State_Enabled):
        palette = option.palette
        palette.setColor(_Role.ButtonText, _colour(option, _Role.HighlightedText))
        option.palette = palette
    return option


def _draw_field(option: QStyleOption, painter: QPainter) -> None:
    """Draw the ground of something to type in; its line turns to the accent colour with the focus."""
    focused = _is(option, QStyle.StateFlag.State_HasFocus)
    fill = _colour(option, _Role.Base if _is(option, QStyle.StateFlag.State_Enabled) else _Role.Window)
    _rounded(painter, _rect(option), fill, _colour(option, _Role.Accent if focused else _Role.Mid))


def _draw_check_box(option: QStyleOption, painter: QPainter) -> None:
    on = _is(option, QStyle.StateFlag.State_On)
    enabled = _is(option, QStyle.StateFlag.State_Enabled)
    accent = _colour(option, _Role.Accent if enabled else _Role.Mid)
    focused = _is(option, QStyle.StateFlag.State_HasFocus)
    rect = _rect(option)
    line = accent if on or focused else _colour(option, _Role.PlaceholderText if enabled else _Role.Mid)
    _rounded(painter, rect, accent if on else _colour(option, _Role.Base), line, radius=3)
    if on:
        painter.setPen(QPen(_colour(option, _Role.HighlightedText), 1.8, c=Qt.PenCapStyle.RoundCap))
        x, y, side = rect.x(), rect.y(), rect.width()
        corner = QPointF(x + 0.43 * side, y + 0.70 * side)
        painter.drawLine(QPointF(x + 0.24 * side, y + 0.52 * side), corner)
        painter.drawLine(corner, QPointF(x + 0.77 * side, y + 0.30 * side))


def _draw_progress(option: QStyleOptionProgressBar, painter: QPainter) -> None:
    share = (option.progress - option.minimum) / (option.maximum - option.minimum)
    rect = _rect(option)
    rect.setWidth(max(2 * RADIUS, rect.width() * share) if share > 0 else 0)
    if share > 0:
        _rounded(painter, rect, _colour(option, _Role.Highlight), None)


def _draw_tab(option: QStyleOptionTab, painter: QPainter) -> None:
    """Draw a tab as its text alone; a line in the accent colour runs along the one in front."""
    rect = _rect(option)
    if _is(option, QStyle.StateFlag.State_Selected):
        painter.fillRect(rect.adjusted(6, 0, -6, 2 - rect.height()), _colour(option, _Role.Accent))
    elif _is(option, QStyle.StateFlag.State_MouseOver):
        painter.fillRect(rect.adjusted(6, 0, -6, 2 - rect.height()), _colour(option, _Role.Mid))


def _draw_dock_title(option: QStyleOptionDockWidget, painter: QPainter) -> None:
    """Draw a dock's title as a small quiet heading over a hairline."""
    painter.save()
    font = QApplication.font()  # the painter's may be that of an earlier style
    font.setPointSizeF(font.pointSizeF() * 0.82)
    font.setVariableAxis(QFont.Tag("wght"), 620.0)
    font.setLetterSpacing(font.SpacingType.AbsoluteSpacing, 0.8)
    painter.setFont(font)
    painter.setPen(_colour(option, _Role.PlaceholderText))
    rect = option.rect.adjusted(10, 0, -44, 0)
    text = painter.fontMetrics().elidedText(option.title.upper(), Qt.TextElideMode.ElideRight, rect.width())
    painter.drawText(rect, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text)
    painter.restore()


def _draw_chevron(option: QStyleOption, painter: QPainter, rect: QRect, *, up: bool) -> None:
    centre, half = QPointF(rect.center()) + QPointF(0.5, 0.5), 3.0
    tip = -half / 2 if up else half / 2
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(_colour(option, _Role.PlaceholderText), 1.4, c=Qt.PenCapStyle.RoundCap))
    painter.drawLine(centre + QPointF(-half, -tip), centre + QPointF(0, tip))
    painter.drawLine(centre + QPointF(0, tip), centre + QPointF(half, -tip))
    painter.restore()


def _rounded(
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


def _has_frame(widget: QWidget) -> bool:
    """Say whether a line edit draws a field of its own: not inside a spin box or a combo box."""
    return bool(widget.property("frame")) if widget.property("frame") is not None else True


def _rect(option: QStyleOption) -> QRectF:
    return QRectF(option.rect)


def _colour(option: QStyleOption, role: QPalette.ColorRole) -> QColor:
    return option.palette.color(role)


def _is(option: QStyleOption, flag: QStyle.StateFlag) -> bool:
    return bool(option.state & flag)
