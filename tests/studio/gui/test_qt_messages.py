"""Qt's own messages."""

from __future__ import annotations

import logging

import pytest
from PySide6.QtCore import QMessageLogContext, QtMsgType
from PySide6.QtWidgets import QApplication

from studio.gui.qt_messages import log_qt_message


def test_warnings_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log_qt_message(QtMsgType.QtWarningMsg, QMessageLogContext(), "QFont: no such font")
    assert caplog.record_tuples == [("qt", logging.WARNING, "QFont: no such font")]


def test_what_the_offscreen_platform_always_says_is_dropped(
    qapp: QApplication, caplog: pytest.LogCaptureFixture
) -> None:
    assert qapp.platformName() == "offscreen"
    noise = "This plugin does not support propagateSizeHints()"
    log_qt_message(QtMsgType.QtWarningMsg, QMessageLogContext(), noise)
    assert caplog.records == []
