"""The desk's widget style: Fusion with its bevels and gradients replaced by flat shapes."""

from __future__ import annotations

from PySide6.QtCore import QRect, QRectF, Qt
from PySide6.QtGui import QIcon, QPainter, QPalette, QPen
from PySide6.QtWidgets import (
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

from studio.gui.shapes import (
    DOCK_SIGNS,
    PRIMARY,
    SHORTEST_THUMB,
    colour_of,
    draw_button,
    draw_check_box,
    draw_chevron,
    draw_dock_title,
    draw_field,
    draw_progress,
    draw_rounded,
    draw_tab,
    has_frame,
    has_state,
    mixed,
    on_accent,
    rect_of,
    scroll_bar_part,
    sign_icon,
)

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
    _Metric.PM_ScrollBarSliderMin: SHORTEST_THUMB,
    _Metric.PM_SplitterWidth: 5,
    _Metric.PM_DockWidgetSeparatorExtent: 5,
    _Metric.PM_DockWidgetTitleMargin: 5,
    _Metric.PM_ButtonShiftHorizontal: 0,
    _Metric.PM_ButtonShiftVertical: 0,
    _Metric.PM_LayoutHorizontalSpacing: 8,
    _Metric.PM_LayoutVerticalSpacing: 8,
}

_SCROLL_PARTS = (
    QStyle.SubControl.SC_ScrollBarSlider,
    QStyle.SubControl.SC_ScrollBarAddPage,
    QStyle.SubControl.SC_ScrollBarSubPage,
)


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
            draw_button(option, painter, widget, flat=element == _Primitive.PE_PanelButtonTool)
        elif element == _Primitive.PE_PanelLineEdit:
            if widget is None or has_frame(widget):
                draw_field(option, painter)
        elif element == _Primitive.PE_IndicatorCheckBox:
            draw_check_box(option, painter)
        elif element == _Primitive.PE_Frame:
            painter.setPen(QPen(colour_of(option, _Role.Mid), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(option.rect.adjusted(0, 0, -1, -1))
        elif element == _Primitive.PE_FrameFocusRect:
            draw_rounded(painter, rect_of(option), None, colour_of(option, _Role.Accent))
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
            draw_rounded(painter, rect_of(option), colour_of(option, _Role.Mid), None)
        elif element == _Control.CE_ProgressBarContents and isinstance(option, QStyleOptionProgressBar):
            if option.maximum > option.minimum:
                draw_progress(option, painter)
            else:  # how far is not known
                half = mixed(colour_of(option, _Role.Mid), colour_of(option, _Role.Accent), 0.5)
                draw_rounded(painter, rect_of(option), half, None)
        elif element == _Control.CE_DockWidgetTitle and isinstance(option, QStyleOptionDockWidget):
            draw_dock_title(option, painter)
        elif element == _Control.CE_PushButtonLabel and widget is not None and widget.property(PRIMARY):
            super().drawControl(element, on_accent(option), painter, widget)
        elif element == _Control.CE_TabBarTabShape and isinstance(option, QStyleOptionTab):
            draw_tab(option, painter)
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
                draw_field(option, painter)
            for part in (QStyle.SubControl.SC_SpinBoxUp, QStyle.SubControl.SC_SpinBoxDown):
                if option.subControls & part:
                    rect = self.subControlRect(control, option, part, widget)
                    draw_chevron(option, painter, rect, up=part == QStyle.SubControl.SC_SpinBoxUp)
        elif control == _Complex.CC_ComboBox and isinstance(option, QStyleOptionComboBox):
            draw_button(option, painter, widget, flat=not option.frame)
            rect = self.subControlRect(control, option, QStyle.SubControl.SC_ComboBoxArrow, widget)
            draw_chevron(option, painter, rect, up=False)
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
        return scroll_bar_part(option, part) if part in _SCROLL_PARTS else rect

    def _draw_scroll_bar(self, option: QStyleOptionSlider, painter: QPainter, widget: QWidget | None) -> None:
        painter.fillRect(option.rect, colour_of(option, _Role.Window))
        part = QStyle.SubControl.SC_ScrollBarSlider
        thumb = QRectF(self.subControlRect(_Complex.CC_ScrollBar, option, part, widget)).adjusted(
            3, 3, -3, -3
        )
        hovered = has_state(option, QStyle.StateFlag.State_MouseOver) or has_state(
            option, QStyle.StateFlag.State_Sunken
        )
        colour = colour_of(option, _Role.PlaceholderText if hovered else _Role.Mid)
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
        sign = DOCK_SIGNS.get(standardIcon)
        return super().standardIcon(standardIcon, option, widget) if sign is None else sign_icon(sign)

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
