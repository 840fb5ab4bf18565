"""Running a training on the command line: its progress, an end in good order, and what it leaves."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from studio.cli.exporters import size_of, write_export
from studio.cli.output import print_json
from studio.contracts import (
    BaseModel,
    BlendChannel,
    BlendState,
    Exporter,
    ExportRequest,
    Progress,
    Trained,
    TrainingProgress,
    Work,
)
from studio.errors import CancelledError, StudioError

REPORT_SECONDS = 5.0
"""How often a step is told, where stderr is no terminal; those with a validation or a sample always are."""

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes
    ----------
    trained
        What it made; None where it ended before its first step did.
    interrupted
        Whether Ctrl-C ended it.
    error
        What else ended it early.
    """

    trained: Trained | None
    interrupted: bool = False
    error: StudioError | None = None


def run_training(work: Work) -> Ended:
    """Run a training to its end, to its failure, or until Ctrl-C; what it was at its best is kept."""
    last: TrainingProgress | None = None
    lines = _Lines()
    with _interruptible() as interrupted:
        try:
            while not interrupted():
                progress = next(work)
                lines.show(progress)
                if isinstance(progress, TrainingProgress):
                    last = progress
            work.close()
            return Ended(_kept(last), interrupted=True)
        except StopIteration as end:
            return Ended(end.value)
        except StudioError as error:
            if last is None:
                raise
            return Ended(_kept(last), error=error)
        finally:
            lines.end()
            work.close()


@dataclass(frozen=True)
class Destination:
    """Where the adapter goes: a path, who writes it, and with which options."""

    path: Path
    exporter: Exporter
    options: Mapping[str, object]


def conclude(ended: Ended, base: BaseModel, destination: Destination, *, as_json: bool) -> None:
    """Write what a run made, say so, and end the command as the run ended.

    Raises
    ------
    StudioError
        What ended the run, once its best is written; or it cannot be written.
    CancelledError
        Ctrl-C ended it before there was anything to write.
    """
    trained = ended.trained
    if trained is None:
        raise CancelledError
    key = trained.adapter.name
    blend = BlendState((BlendChannel(key, trained.adapter.version, 1.0),))
    request = ExportRequest(base, {key: trained.adapter}, blend)
    exported = write_export(request, destination.exporter, destination.path, destination.options)
    size = size_of(destination.path)
    if as_json:
        print_json(
            {
                "path": str(destination.path),
                "format": destination.exporter.name,
                "bytes": size,
                "steps": trained.steps,
                "best_step": trained.best_step,
                "loss": trained.loss,
                "validation_loss": trained.validation,
                "validation_loss_before": trained.before,
                "complete": not ended.interrupted and ended.error is None,
                "notes": list(exported.notes),
            }
        )
    else:
        what = f"{destination.exporter.name}, {size / 1e6:.1f} MB"
        print(f"wrote {destination.path} ({what}): {_told(ended, trained)}")
        for note in exported.notes:
            print(f"note: {note}")
    if ended.error is not None:
        raise ended.error
    if ended.interrupted:
        sys.exit(INTERRUPTED)


def _told(ended: Ended, trained: Trained) -> str:
    """Say what is in the file."""
    early = "interrupted" if ended.interrupted else "failed" if ended.error is not None else "finished"
    text = f"{early} after step {trained.steps}"
    if trained.best_step != trained.steps:
        text += f", the best was step {trained.best_step}"
    if trained.validation is not None:
        before = "" if trained.before is None else f"{perplexity(trained.before):.3f} -> "
        return f"{text}, validation perplexity {before}{perplexity(trained.validation):.3f}"
    return f"{text}, loss {trained.loss:.4f}"


def perplexity(loss: float) -> float:
    """Return the perplexity of a mean loss in nats; infinite where no float holds it."""
    return math.exp(loss) if loss < 700 else math.inf


def describe_step(progress: TrainingProgress) -> str:
    """Say in one line how far a run is."""
    parts = [
        f"step {progress.done}/{progress.total}",
        f"loss {progress.loss:.4f}",
        f"norm {progress.gradient_norm:.3g}",
        f"{progress.tokens_per_second:.0f} tokens/s",
        f"{duration(progress.seconds_left)} left",
    ]
    if progress.validation is not None:
        parts.append(f"validation perplexity {perplexity(progress.validation):.3f}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Write seconds as 0:07, 2:15 or 1:02:15."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _kept(last: TrainingProgress | None) -> Trained | None:
    """Return what is left of a run that ended early."""
    if last is None or last.best is None:
        return None
    return Trained(last.best, last.done, last.best_step, last.loss, None)


class _Lines:
    """Shows progress on stderr: each text in the place of the one before, or now and then a line."""

    def __init__(self) -> None:
        self._in_place = sys.stderr.isatty()
        self._told = -math.inf

    def show(self, progress: Progress) -> None:
        """Show one notice."""
        if not isinstance(progress, TrainingProgress):
            if self._in_place or not progress.total:
                self._write(progress.message, stays=not progress.total)
            return
        weighty = progress.validation is not None or progress.sample is not None
        if self._in_place or weighty or time.monotonic() - self._told >= REPORT_SECONDS:
            self._write(describe_step(progress), stays=weighty)
            self._told = time.monotonic()
        if progress.sample is not None:
            self._write(f"  {progress.sample!r}", stays=True)

    def end(self) -> None:
        """Leave the line free."""
        if self._in_place:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _write(self, text: str, *, stays: bool) -> None:
        if self._in_place:
            print(f"\r\x1b[K{text}", end="\n" if stays else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C be asked for; a second one stops at once."""
    asked = False

    def note(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping after this step; Ctrl-C once more stops at once", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
