"""Small controls that several views share: letter and icon buttons, number boxes, quiet labels."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetrics,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QPen,
)
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QDoubleSpinBox,
    QLabel,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from studio.gui.shapes import RADIUS, mixed
from studio.gui.theme import current_theme, small_font, strong_font


class LetterButton(QAbstractButton):
    """A small square toggle with one letter, lit in a colour of its own while on, as on a mixing desk.

    One that does not toggle can be marked: its letter takes the colour.
    """

    def __init__(
        self, letter: str, colour: str, name: str, parent: QWidget | None = None, *, toggles: bool = True
    ) -> None:
        super().__init__(parent)
        self._colour = colour
        self._marked = False
        self.clicked_with_shift = False
        self.setText(letter)
        self.setCheckable(toggles)
        self.setAccessibleName(name)
        self.setToolTip(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Grow with the font."""
        height = self.fontMetrics().height()
        return QSize(height + 9, height + 5)

    def set_marked(self, marked: bool) -> None:
        """Write the letter in the button's colour, or quietly."""
        self._marked = marked
        self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Remember whether Shift was held, for whoever handles the click."""
        self.clicked_with_shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        super().mouseReleaseEvent(event)
        self.clicked_with_shift = False

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        """Remember whether Shift was held: Shift+Space does what Shift+click does."""
        self.clicked_with_shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        super().keyReleaseEvent(event)
        self.clicked_with_shift = False

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the square and its letter."""
        theme = current_theme()
        lit = QColor(getattr(theme, self._colour))
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        fill = lit if self.isChecked() else QColor(theme.raised)
        if self.underMouse():
            fill = mixed(fill, theme.text, 0.08)
        painter.setBrush(fill)
        line = fill if self.isChecked() else QColor(theme.line)
        painter.setPen(QPen(QColor(theme.accent) if self.hasFocus() else line, 1))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), RADIUS, RADIUS)
        painter.setFont(small_font(self.font(), bold=True))
        letter = lit if self._marked else QColor(theme.faint if self.isEnabled() else theme.line)
        painter.setPen(QColor(theme.panel) if self.isChecked() else letter)
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self.text())


class CloseButton(QAbstractButton):
    """A small cross, quiet until it is hovered or focused."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setToolTip(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return its fixed size."""
        return QSize(22, 20)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the cross."""
        theme = current_theme()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.hasFocus():
            painter.setPen(QPen(QColor(theme.accent), 1))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), RADIUS, RADIUS)
        colour = QColor(theme.danger if self.underMouse() else theme.faint)
        painter.setPen(QPen(colour, 1.4, c=Qt.PenCapStyle.RoundCap))
        centre, arm = QRectF(self.rect()).center(), 3.5
        painter.drawLine(centre + QPointF(-arm, -arm), centre + QPointF(arm, arm))
        painter.drawLine(centre + QPointF(-arm, arm), centre + QPointF(arm, -arm))


class NumberBox(QDoubleSpinBox):
    """An exact number to type: two to four decimals, changed once the entry is done."""

    def __init__(
        self, name: str, low: float, high: float, step: float, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setDecimals(4)
        self.setRange(low, high)
        self.setSingleStep(step)
        self.setKeyboardTracking(False)
        self.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        self.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        name_control(self, name)

    def sizeHint(self) -> QSize:
        """Ask for the room that a usual number takes, not the longest one."""
        return QSize(self.fontMetrics().horizontalAdvance("-00.00") + 20, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        """Take no less."""
        return self.sizeHint()

    def textFromValue(self, value: float) -> str:
        """Write two decimals, or as many more as the number has."""
        text = f"{value:.4f}".rstrip("0")
        whole, _, decimals = text.partition(".")
        return f"{'0' if whole == '-0' and not decimals else whole}.{decimals.ljust(2, '0')}"


class DeskLabel(QLabel):
    """A line of plain text that may be small, strong, quiet or elided, in whatever font it inherits.

    An elided one ends in … where it has no room, instead of making its panel wider.
    """

    def __init__(
        self,
        text: str = "",
        *,
        small: bool = False,
        strong: bool = False,
        quiet: bool = False,
        elided: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self._small, self._strong, self._elided = small, strong, elided
        self.setTextFormat(Qt.TextFormat.PlainText)
        if quiet:
            self.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        if elided:
            self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def _shown_font(self) -> QFont:
        """Derive the font from the inherited one; a font set on the label would no longer follow it."""
        font = small_font(self.font()) if self._small else self.font()
        return strong_font(font) if self._strong else font

    def sizeHint(self) -> QSize:
        """Ask for the room of one line."""
        metrics, margins = QFontMetrics(self._shown_font()), self.contentsMargins()
        width = metrics.horizontalAdvance(self.text()) + margins.left() + margins.right() + 1
        return QSize(width, metrics.height() + margins.top() + margins.bottom())

    def minimumSizeHint(self) -> QSize:
        """Take no less, or hardly anything where the text may be elided."""
        return QSize(0, self.sizeHint().height()) if self._elided else self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint as much of the text as fits."""
        painter = QPainter(self)
        painter.setFont(self._shown_font())
        painter.setPen(self.palette().color(self.foregroundRole()))
        rect = self.contentsRect()
        text = painter.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, rect.width())
        painter.drawText(rect, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text)


def hint_label() -> QLabel:
    """Return a quiet text for the middle of an empty view."""
    label = QLabel()
    label.setAlignment(Qt.AlignmentFlag.AlignCenter)
    label.setWordWrap(True)
    label.setMargin(20)
    label.setForegroundRole(QPalette.ColorRole.PlaceholderText)
    return label


def set_text_colour(label: QLabel, colour: str) -> None:
    """Write a label in a colour of the theme, keeping the rest of its palette."""
    palette = label.palette()
    if palette.color(label.foregroundRole()) != QColor(colour):
        palette.setColor(label.foregroundRole(), QColor(colour))
        label.setPalette(palette)


def name_control(box: QSpinBox | QDoubleSpinBox, name: str) -> None:
    """Give a spin box its accessible name, and the line edit inside it too: screen readers land there."""
    box.setAccessibleName(name)
    box.lineEdit().setAccessibleName(name)
