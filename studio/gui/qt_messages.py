"""What Qt itself has to say goes to `logging`, as everything else does."""

from __future__ import annotations

import logging

from PySide6.QtCore import QMessageLogContext, QtMsgType, qInstallMessageHandler
from PySide6.QtGui import QGuiApplication

logger = logging.getLogger("qt")

_LEVELS = {
    QtMsgType.QtDebugMsg: logging.DEBUG,
    QtMsgType.QtInfoMsg: logging.INFO,
    QtMsgType.QtWarningMsg: logging.WARNING,
    QtMsgType.QtCriticalMsg: logging.ERROR,
    QtMsgType.QtFatalMsg: logging.CRITICAL,
}

_OFFSCREEN_NOISE = "This plugin does not support propagateSizeHints()"
"""What the offscreen platform says of every window; nothing is wrong then."""


def route_qt_messages() -> None:
    """Send Qt's messages to the logger ``qt`` from now on."""
    qInstallMessageHandler(log_qt_message)


def log_qt_message(kind: QtMsgType, context: QMessageLogContext, message: str) -> None:
    """Log one message of Qt's, unless it is the offscreen platform's usual one."""
    if message == _OFFSCREEN_NOISE and QGuiApplication.platformName() == "offscreen":
        return
    logger.log(_LEVELS.get(kind, logging.WARNING), "%s", message)
