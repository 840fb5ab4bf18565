"""What the tests of the desk share: no test may leave a top-level widget behind."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QApplication

from studio.gui.theme import apply_theme

if TYPE_CHECKING:
    from collections.abc import Iterator


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
