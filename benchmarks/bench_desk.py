"""Slider to repainted view, 64 tokens, three adapters; longest stall in a drag, alone and while training."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QTimer
from PySide6.QtWidgets import QApplication, QWidget

from benchmarks.demo import PROMPT_LENGTH, open_session, prompt_text
from benchmarks.row import Row
from studio.cli.output import finish
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.gui.heartbeat import Heartbeat
from studio.gui.screenshot import Show
from studio.jobs.documents import save_document
from studio.jobs.training import TrainingPlan
from studio.registry import load_plugins
from studio.session.prompt import Prompt

if TYPE_CHECKING:
    from benchmarks.run import Run
    from studio.contracts import Plugins

MOVES = 60
DRAG_SECONDS = 10
EVENTS_PER_SECOND = 200


class PaintClock(QObject):
    """Notes when a widget, or anything in it, was last painted."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__()
        self._widget = widget
        self.last = 0.0
        app = QApplication.instance()
        assert app is not None
        app.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Let every event through."""
        if event.type() == QEvent.Type.Paint and isinstance(watched, QWidget):
            if watched is self._widget or self._widget.isAncestorOf(watched):
                self.last = time.perf_counter()
        return False


def main(run: Run) -> None:
    """Report all."""
    plugins = load_plugins()
    with tempfile.TemporaryDirectory() as folder:
        session_file = Path(folder) / "bench.lorastudio.json"
        write_session(session_file, plugins)
        show = Show(session_file, plugins, engine=LocalEngine(choose_backend("numpy")))
        try:
            times = slider_to_paint(show, run.rounds or MOVES)
            conditions = {"adapters": 3, "tokens": PROMPT_LENGTH}
            run.report(Row("desk, slider to repainted", "ms", conditions, [times]))
            seconds = DRAG_SECONDS if run.rounds is None else 1
            run.report(drag(show, seconds, "desk, longest stall"))
            begin_training(show, plugins, Path(folder) / "text.txt")
            run.report(drag(show, seconds, "desk, longest stall while training"))
            show.desk.training.stop()
        finally:
            show.close()


def write_session(path: Path, plugins: Plugins) -> None:
    """Save the demo with a 64-token prompt and all three adapters heard."""
    session = open_session(plugins)
    assert session.base is not None
    assert session.tokenizer is not None
    session.prompt = Prompt(prompt_text(session.tokenizer))
    finish(save_document(path, session.document()))
    session.base.close()


def slider_to_paint(show: Show, moves: int) -> list[float]:
    """Move the first fader again and again: milliseconds until the answer has been painted."""
    key = show.desk.session.stack.state.channels[0].key
    clock = PaintClock(show.desk.window.next_token)
    answered = [0.0]
    show.desk.live.shown.connect(lambda _: answered.append(time.perf_counter()))
    taken = []
    for index in range(-3, moves):
        started = time.perf_counter()
        show.move(key, 0.5 + 0.01 * (index % 40))
        show.wait_until(lambda: clock.last >= answered[-1])
        if index >= 0:
            taken.append((clock.last - started) * 1e3)
    QApplication.instance().removeEventFilter(clock)  # type: ignore[union-attr]
    return taken


def begin_training(show: Show, plugins: Plugins, text: Path) -> None:
    """Train an adapter on a sibling of the desk's engine, and wait for its first step."""
    session = show.desk.session
    assert session.base is not None
    assert session.tokenizer is not None
    text.write_text(" ".join([prompt_text(session.tokenizer)] * 100), encoding="utf-8")
    trainer = next(one for one in plugins.trainers if one.name == "LoRA")
    plan = TrainingPlan(text, trainer, trainer.Options(steps=10_000), max_length=256, pack=True)
    show.desk.training.start(plan, session.base, session.tokenizer)
    show.wait_until(lambda: "step" in show.desk.window.run.numbers.numbers)


def drag(show: Show, seconds: int, name: str) -> Row:
    """Move a fader without a pause; the row has the longest time that the window stood still."""
    row = show.desk.window.stack.rows[show.desk.session.stack.state.channels[1].key]
    answers: list[object] = []
    show.desk.live.shown.connect(answers.append)
    heartbeat, steps, timer = Heartbeat(), iter(range(10**9)), QTimer()
    timer.timeout.connect(lambda: row.number.setValue(0.01 * (next(steps) % 150)))
    started = time.perf_counter()
    heartbeat.start()
    timer.start(1000 // EVENTS_PER_SECOND)
    show.wait_until(lambda: time.perf_counter() - started > seconds)
    timer.stop()
    longest = heartbeat.stop()
    conditions = {"seconds": seconds, "moves": next(steps), "shown": len(answers)}
    return Row(name, "ms", conditions, [[longest]])
