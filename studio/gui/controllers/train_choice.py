"""What a train dialog is set to, and what is known of it: the files are read, the memory is estimated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from studio.contracts import BASE_ALONE, LowRankAdapter, Optimisation
from studio.gui.frame import OncePerFrame
from studio.gui.sizes import size_text
from studio.jobs.borrowing import on_sibling
from studio.jobs.training import TrainingPlan
from studio.jobs.training_outlook import estimate_memory, read_training_data

if TYPE_CHECKING:
    from studio.contracts import BaseModel
    from studio.engine.tokenizer import Tokenizer
    from studio.errors import StudioError
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.train_dialog import TrainDialog
    from studio.jobs.engine_thread import EngineThread
    from studio.jobs.job import Job
    from studio.jobs.training_outlook import MemoryEstimate, TrainingData
    from studio.lora.stack import StackSnapshot
    from studio.session.prompt import Prompt


@dataclass(frozen=True)
class DataOptions:
    """How files are read."""

    max_length: int = field(
        default=256, metadata={"help": "The longest example, in tokens.", "range": (2, 1_048_576)}
    )
    pack: bool = field(
        default=False, metadata={"help": "Texts follow one another in examples of the full length."}
    )
    held_out: float = field(
        default=0.1,
        metadata={
            "help": "What share is measured and not learnt, without a file for it.",
            "range": (0.0, 0.9),
        },
    )
    held_out_seed: int = field(
        default=0, metadata={"help": "Chooses what is held out.", "range": (0, 2**31 - 1)}
    )


class TrainChoice(QObject):
    """Lives as long as its dialog; the newest choice counts.

    Parameters
    ----------
    base, tokenizer, stack, prompt
        The session as it was when the dialog opened.
    """

    def __init__(
        self,
        base: BaseModel,
        tokenizer: Tokenizer,
        stack: StackSnapshot,
        prompt: Prompt,
        dialog: TrainDialog,
        engine: EngineThread,
        jobs: JobsController,
    ) -> None:
        super().__init__(dialog)
        self._base = base
        self._tokenizer = tokenizer
        self._stack = stack
        self._prompt = prompt
        self._dialog = dialog
        self._engine = engine
        self._jobs = jobs
        self._data: TrainingData | None = None
        self._newest: Job | None = None
        self._reading = OncePerFrame(self._read, self)
        self._estimating = OncePerFrame(self._estimate, self)
        dialog.data_changed.connect(self._forget)
        dialog.run_changed.connect(self._estimating.request)
        dialog.finished.connect(self._stop)

    @property
    def plan(self) -> TrainingPlan:
        """All that is chosen now; a file to learn from is."""
        dialog, beside = self._dialog, self._dialog.beside_box.isChecked()
        data, reading, optimiser = dialog.data.path, dialog.data_options, dialog.optimiser
        start = self._stack.members.get(dialog.start)
        assert data is not None
        return TrainingPlan(
            data,
            dialog.trainer,
            dialog.options,
            None if optimiser is None else Optimisation(optimiser, dialog.optimiser_options),
            validation=dialog.validation.path,
            held_out=reading.held_out,
            held_out_seed=reading.held_out_seed,
            max_length=reading.max_length,
            pack=reading.pack,
            name=dialog.name,
            prompt=self._prompt.text,
            start=start if isinstance(start, LowRankAdapter) else None,
            beside=self._stack.members if beside else None,
            state=self._stack.blend if beside else BASE_ALONE,
            checkpoints=dialog.checkpoints,
            resume=dialog.resume_box.isEnabled() and dialog.resume_box.isChecked(),
        )

    def _forget(self) -> None:
        """Begin anew for other files."""
        self._data = None
        self._cancel()
        self._dialog.preview.set_sequences([], 0)
        named = self._dialog.data.path is not None
        self._dialog.set_facts([("Data", "reading …")] if named else [], ready=False)
        self._reading.request()

    def _read(self) -> None:
        if self._dialog.data.path is None:
            return
        self._cancel()
        plan = self.plan
        job = self._newest = self._jobs.run(
            f"Read {plan.data.name}",
            on_sibling(
                self._engine,
                self._base,
                lambda engine: read_training_data(plan, self._base, self._tokenizer, engine),
            ),
            lambda data: self._take_data(job, data),
            aside=True,
            failed=lambda error: self._refuse(job, error),
        )

    def _take_data(self, job: Job, data: TrainingData) -> None:
        if job is self._newest:
            self._data = data
            self._dialog.preview.set_sequences(data.seen, len(data.request.examples))
            self._estimate()

    def _estimate(self) -> None:
        data = self._data
        if data is None:
            return
        self._cancel()
        self._dialog.set_facts([("Data", data.summary)], ready=False)
        plan = self.plan
        job = self._newest = self._jobs.run(
            "Estimate the run",
            on_sibling(self._engine, self._base, lambda engine: estimate_memory(plan, data, engine)),
            lambda found: self._show(job, data, found),
            aside=True,
            failed=lambda error: self._refuse(job, error),
        )

    def _show(self, job: Job, data: TrainingData, found: MemoryEstimate) -> None:
        if job is not self._newest:
            return
        memory = f"about {size_text(found.needed)} beside the base"
        if found.free is not None:
            memory += f"; {size_text(found.free)} free"
        advice = "" if found.fits else "This does not fit in memory: shorten the examples or lower the rank."
        self._dialog.set_facts([("Data", data.summary), ("Memory", memory)], advice, ready=found.fits)

    def _refuse(self, job: Job, error: StudioError) -> None:
        if job is self._newest:
            facts = [] if self._data is None else [("Data", self._data.summary)]
            self._dialog.set_facts(facts, str(error), ready=False)

    def _cancel(self) -> None:
        job, self._newest = self._newest, None
        if job is not None:
            job.cancel()

    def _stop(self) -> None:
        """Forget the dialog, which is about to go."""
        self._reading.stop()
        self._estimating.stop()
        self._cancel()
