"""What the tests of the desk share: no test may leave a top-level widget behind."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from studio.gui.theme import apply_theme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 60_000
"""How long a test waits for the desk, in ms: on a machine that others load, the usual 5 s are short."""


class PatientQtBot(QtBot):
    """Waits as long as a loaded machine needs."""

    def waitSignal(self, signal: Any, *, timeout: int = PATIENCE, **rest: Any) -> Any:
        """Wait for a signal."""
        return super().waitSignal(signal, timeout=timeout, **rest)

    def waitUntil(self, callback: Callable[[], bool | None], *, timeout: int = PATIENCE) -> None:
        """Wait until something is so."""
        super().waitUntil(callback, timeout=timeout)


@pytest.fixture
def qtbot(qapp: QApplication, request: pytest.FixtureRequest) -> QtBot:
    """Stand in for pytest-qt's own, which gives up after 5 s."""
    return PatientQtBot(request)


@pytest.fixture(autouse=True)
def no_leaked_widgets(qapp: QApplication, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which a new top-level widget is still alive."""
    before = set(QApplication.topLevelWidgets())
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed != failed_before:
        return  # a failed test keeps its widgets in its traceback
    gc.collect()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    left = [widget for widget in QApplication.topLevelWidgets() if widget not in before]
    if left:
        pytest.fail(f"widgets left behind: {left}")


@pytest.fixture(autouse=True)
def light_theme(qapp: QApplication) -> None:
    """Start every test from the light theme."""
    apply_theme(qapp, "light")
