"""Training on the desk: asks, runs, shows the run, lets it be heard, and puts what it made on the stack."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QTimer

from studio.contracts import LowRankAdapter
from studio.gui import questions
from studio.gui.controllers.train_choice import DataOptions, TrainChoice
from studio.gui.jobs_panel import duration
from studio.gui.train_dialog import TrainDialog
from studio.jobs.borrowing import on_sibling
from studio.jobs.run_monitor import RunMonitor
from studio.jobs.training import start_training
from studio.lora.dora import AnyAdapter

if TYPE_CHECKING:
    from studio.contracts import (
        BaseModel,
        DeltaAdapter,
        LearningEngine,
        Plugins,
        Trained,
        TrainingProgress,
        Work,
    )
    from studio.engine.tokenizer import Tokenizer
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.jobs.engine_thread import EngineThread
    from studio.jobs.job import Job
    from studio.jobs.training import TrainingPlan
    from studio.session.session import Session

LISTEN_MS = 1000
"""The shortest time between two states of the adapter on the stack, in milliseconds."""

SHOW_MS = 200
"""The shortest time between two pictures of the run."""

NOT_IN_A_FILE = "It is in no file, nor in the session's, until it is exported"


class TrainingController(QObject):
    """Runs one training at a time, on an engine of its own, in a thread of its own."""

    def __init__(
        self,
        session: Session,
        engine: EngineThread,
        jobs: JobsController,
        plugins: Plugins,
        window: MainWindow,
        notices: Notices,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._engine = engine
        self._jobs = jobs
        self._plugins = plugins
        self._window = window
        self._notices = notices
        self._run: _Run | None = None
        window.commands.train.triggered.connect(self.ask)
        window.commands.stop_training.triggered.connect(self.stop)
        window.run.stop_requested.connect(self.stop)
        window.run.listen_toggled.connect(self._listen)
        session.base_changed.connect(self._follow_base)
        jobs.progressed.connect(self._follow_job)
        self._show_commands()

    @property
    def name(self) -> str:
        """The adapter that is being trained; empty where none is."""
        return "" if self._run is None else self._run.name

    def ask(self) -> None:
        """Open the train dialog."""
        session, trainers = self._session, self._plugins.trainers
        base, tokenizer = session.base, session.tokenizer
        if base is None or tokenizer is None or not trainers:
            reason = "No plugin offers a trainer" if base and tokenizer else "This base takes no text"
            self._notices.warn("Open a base model first" if base is None else reason)
            return
        stack = session.stack.snapshot()
        starts = [(key, one.name) for key, one in stack.members.items() if isinstance(one, LowRankAdapter)]
        dialog = TrainDialog(
            trainers,
            self._plugins.optimisers,
            DataOptions,
            starts,
            self._window,
            audible=bool(stack.blend.channels),
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        choice = TrainChoice(base, tokenizer, stack, session.prompt, dialog, self._engine, self._jobs)
        dialog.accepted.connect(lambda: self.start(choice.plan, base, tokenizer))
        dialog.open()

    def start(self, plan: TrainingPlan, base: BaseModel, tokenizer: Tokenizer) -> None:
        """Begin a run on a base."""
        if self._run is not None:
            self._notices.warn(f"{self.name} is being trained: stop it first")
            return
        monitor = RunMonitor()

        def work(engine: LearningEngine) -> Work:
            return monitor.watch(start_training(plan, base, tokenizer, engine))

        run = self._run = _Run(plan.name, base, monitor, self)
        run.job = self._jobs.run(
            f"Train {plan.name}",
            on_sibling(self._engine, base, work),
            lambda trained: self._take(run, trained),
            long=True,
            ended=lambda: self._end(run),
        )
        run.shown.timeout.connect(lambda: self._show(run))
        run.heard.timeout.connect(lambda: self._exchange(run))
        panel = self._window.run
        panel.set_run(plan.name)
        panel.set_state("preparing")
        panel.set_listening(False)
        self._show_commands()
        self._window.docks["training"].show()
        self._window.docks["training"].raise_()

    def stop(self) -> None:
        """End the run, and keep the adapter as it was at its best."""
        if self._run is not None and self._run.job is not None:
            self._run.job.cancel()
            self._window.run.set_state("stopping")

    def may_leave(self) -> bool:
        """Ask whether a run may end for another base, which ends it once it is open."""
        return self._run is None or questions.leave_training(self._window, self.name)

    def _follow_base(self) -> None:
        run = self._run
        if run is not None and run.job is not None and run.base is not self._session.base:
            run.abandoned = True
            run.job.cancel()
        self._show_commands()

    # While it runs

    def _follow_job(self, job: Job) -> None:
        run = self._run
        if run is not None and job is run.job:
            for timer in (run.shown, run.heard):
                if not timer.isActive():
                    timer.start()

    def _show(self, run: _Run) -> None:
        """Show the run as it stands."""
        record, panel = run.monitor.record(), self._window.run
        panel.set_losses(record.losses, record.validations)
        panel.set_samples(record.samples)
        if record.newest is not None:
            validation = record.validations[-1][1] if record.validations else None
            panel.set_numbers(numbers(record.newest, validation))
            if run is self._run and run.job is not None and not run.job.finished:
                told = record.newest
                panel.set_state(f"step {told.done:,} of {told.total:,}, {duration(told.seconds_left)} left")

    def _listen(self, on: bool) -> None:
        """Put the adapter on the stack, or take it off."""
        run = self._run
        if run is None:
            return
        run.listening = on
        if on:
            self._exchange(run)
        elif run.key in self._session.stack.by_key:
            self._session.stack.remove(run.key)

    def _exchange(self, run: _Run) -> None:
        """Let the stack hear the newest state of the adapter."""
        newest = run.monitor.record().newest
        if not run.listening or run is not self._run or newest is None or newest.adapter is None:
            return
        if run.key and run.key not in self._session.stack.by_key:  # it was taken off by hand, or undone
            run.listening, run.key = False, ""
            self._window.run.set_listening(False)
            return
        self._place(run, newest.adapter)

    def _place(self, run: _Run, adapter: DeltaAdapter) -> None:
        """Put an adapter on the stack, as a step to undo; later states of it take its place without one."""
        stack = self._session.stack
        if run.key and run.key in stack.by_key:
            self._session.history.exchange(run.key, adapter)
        elif isinstance(adapter, AnyAdapter):
            run.key = stack.push(adapter)
        else:
            run.key = stack.push_adapter(adapter)

    # When it ends

    def _take(self, run: _Run, trained: Trained) -> None:
        if run.abandoned:
            return
        self._place(run, trained.adapter)
        text = f"Trained {run.name} in {trained.steps:,} steps"
        if trained.validation is not None:
            text += f": validation loss {trained.validation:.3f} after step {trained.best_step:,}"
        self._notices.info(f"{text}. {NOT_IN_A_FILE}")
        self._window.run.set_state(f"done after {trained.steps:,} steps")

    def _end(self, run: _Run) -> None:
        """Keep the best of a run that was stopped, and let the next one begin."""
        self._run = None
        self._show(run)
        job = run.job
        if job is not None and job.state == "cancelled" and not run.abandoned:
            self._keep_best(run)
        elif job is not None and job.state != "done":
            self._window.run.set_state(job.state)
        run.deleteLater()
        self._window.run.set_listening(False)
        self._show_commands()

    def _keep_best(self, run: _Run) -> None:
        told = run.monitor.record().newest
        best = None if told is None else told.best or told.adapter
        if told is None or best is None:
            self._window.run.set_state("stopped before the first step")
            return
        step = told.best_step if told.best is not None else told.done
        self._place(run, best)
        self._window.run.set_state(f"stopped; kept step {step:,}")
        self._notices.info(f"Stopped {run.name} and kept step {step:,}. {NOT_IN_A_FILE}")

    def _show_commands(self) -> None:
        running, commands = self._run is not None, self._window.commands
        ready = self._session.base is not None
        commands.train.setEnabled(ready and not running)
        commands.stop_training.setEnabled(running)
        self._window.run.set_running(running)


class _Run(QObject):
    """A run under way.

    Attributes
    ----------
    key
        Of its channel on the stack; empty while it has none.
    listening
        Whether the stack follows it.
    abandoned
        Whether nobody wants what it makes.
    shown, heard
        When the panel and the stack are next brought up to date.
    """

    def __init__(self, name: str, base: BaseModel, monitor: RunMonitor, parent: QObject) -> None:
        super().__init__(parent)
        self.name = name
        self.base = base
        self.monitor = monitor
        self.job: Job | None = None
        self.key = ""
        self.listening = self.abandoned = False
        self.shown, self.heard = QTimer(self), QTimer(self)
        for timer, milliseconds in ((self.shown, SHOW_MS), (self.heard, LISTEN_MS)):
            timer.setSingleShot(True)
            timer.setInterval(milliseconds)


def numbers(told: TrainingProgress, validation: float | None) -> list[tuple[str, str]]:
    """Return where a run stands as (name, text)."""
    return [
        ("step", f"{told.done:,} / {told.total:,}"),
        ("loss", f"{told.loss:.3f}"),
        ("validation", "–" if validation is None else f"{validation:.3f}"),
        ("perplexity", "–" if validation is None else f"{math.exp(min(validation, 700.0)):,.1f}"),
        ("learning rate", f"{told.rate:.3g}"),
        ("gradient norm", f"{told.gradient_norm:.3g}"),
        ("tokens/s", f"{told.tokens_per_second:,.0f}"),
        ("time left", duration(told.seconds_left)),
    ]
