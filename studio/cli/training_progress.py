"""Running a training on the command line: progress line by line, and Ctrl-C that ends it in good order."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from studio.contracts import Progress, Trained, TrainingProgress, Work
from studio.errors import StudioError

REPORT_SECONDS = 5.0
"""How often a step is told, where stderr is no terminal; those with a validation or a sample always are."""


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
