"""How quickly the desk follows a fader: from its move to the repainted view, and the longest UI stall."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

from PySide6.QtCore import QEvent, QObject, QTimer

from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.gui.heartbeat import Heartbeat
from studio.gui.screenshot import Show
from studio.registry import load_plugins
from studio.resources import demo_session
from studio.session.prompt import Prompt

TOKENS = 64
"""Length of the prompt, in tokens."""

MOVES = 60
"""How many single moves are timed."""

DRAG_SECONDS = 10.0
"""How long the fader is dragged without a pause."""

EVENT_MS = 5
"""Time between two events of the drag: 200 a second."""


class PaintWatch(QObject):
    """Notes when a widget, or a part of it, has been painted."""

    def __init__(self, widget: Any) -> None:
        super().__init__(widget)
        self.painted = 0.0
        for part in (widget, *widget.findChildren(QObject)):
            part.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take the time once this round of painting is over."""
        if event.type() == QEvent.Type.Paint:
            QTimer.singleShot(0, self._note)
        return False

    def _note(self) -> None:
        self.painted = time.perf_counter()


def run(moves: int = MOVES, drag_seconds: float = DRAG_SECONDS) -> dict[str, Any]:
    """Measure on the demo session, with three audible adapters, on the NumPy backend."""
    show = Show(demo_session(), load_plugins(), engine=LocalEngine(choose_backend("numpy")))
    try:
        tokens = prepare(show)
        times = [timed_move(show, index) for index in range(moves + 5)][5:]
        stall, answers = drag(show, drag_seconds)
        return {
            "benchmark": "desk",
            "engine": show.desk.engine.description,
            "tokens": tokens,
            "adapters": len(show.desk.session.stack.blend.channels),
            "moves": moves,
            "median_ms": round(statistics.median(times), 1),
            "p95_ms": round(statistics.quantiles(times, n=20)[-1], 1),
            "drag_seconds": drag_seconds,
            "answers_per_s": round(answers / drag_seconds, 1),
            "longest_stall_ms": round(stall, 1),
        }
    finally:
        show.close()


def prepare(show: Show) -> int:
    """Make every adapter audible and the prompt `TOKENS` long; return how long it came out."""
    session = show.desk.session
    assert session.tokenizer is not None
    stack = session.stack
    channels = tuple(replace(channel, scale=0.5, muted=False) for channel in stack.state.channels)
    stack.state = replace(stack.state, channels=channels)
    ids = session.tokenizer.encode(" ".join([session.prompt.text] * 8))
    session.prompt = Prompt(session.tokenizer.decode(ids[:TOKENS]))
    show.settle()
    assert show.result is not None
    return len(show.result.blend.tokens)


def timed_move(show: Show, index: int) -> float:
    """Move a fader once and return the milliseconds until the next-token view was painted with the answer."""
    watch = PaintWatch(show.desk.window.next_token)
    key = list(show.desk.window.stack.rows)[index % 3]
    started = time.perf_counter()
    show.move(key, 0.3 + 0.01 * (index % 40))
    shown = time.perf_counter()
    show.wait_until(lambda: watch.painted >= shown)
    watch.deleteLater()
    return (watch.painted - started) * 1e3


def drag(show: Show, seconds: float) -> tuple[float, int]:
    """Drag the first fader; return the longest stall in milliseconds and how many answers were shown."""
    fader = next(iter(show.desk.window.stack.rows.values())).fader
    answers: list[object] = []
    show.desk.live.shown.connect(answers.append)
    heartbeat, hand = Heartbeat(), QTimer()
    positions = iter(range(10**9))

    def pull() -> None:
        span = fader.maximum() - fader.minimum()
        fader.setSliderPosition(fader.minimum() + 7 * next(positions) % span)

    hand.timeout.connect(pull)
    fader.setSliderDown(True)
    heartbeat.start()
    hand.start(EVENT_MS)
    end = time.perf_counter() + seconds
    show.wait_until(lambda: time.perf_counter() > end)
    stall = heartbeat.stop()
    hand.stop()
    fader.setSliderDown(False)
    return stall, len(answers)
