"""A monitor knows all that a run told."""

from __future__ import annotations

from studio.contracts import Progress, Trained, TrainingProgress, Work
from studio.jobs.run_monitor import RunMonitor
from studio.lora.adapter import Adapter

LOSSES = [3.0, 2.5, 2.0, 1.5]


def run(validations: dict[int, float], closed: list[int]) -> Work:
    """A run of four steps; `closed` gets the step after which it was closed."""
    step = 0
    try:
        yield Progress(0, 0, "Reading")
        for step, loss in enumerate(LOSSES, 1):
            adapter = Adapter(f"after {step}", {})
            sample = "once upon" if step == 2 else None
            yield TrainingProgress(
                step, 4, loss=loss, validation=validations.get(step), adapter=adapter, sample=sample
            )
        return Trained(adapter, 4, 4, 1.5, None)
    finally:
        closed.append(step)


def test_it_records_what_it_lets_through() -> None:
    monitor = RunMonitor()
    closed: list[int] = []
    work, told = monitor.watch(run({2: 2.6, 4: 2.9}, closed)), []
    while True:
        try:
            told.append(next(work))
        except StopIteration as end:
            assert isinstance(end.value, Trained)
            break
    assert [one.done for one in told] == [0, 1, 2, 3, 4]
    record = monitor.record()
    assert record.losses == tuple(enumerate(LOSSES, 1))
    assert record.validations == ((2, 2.6), (4, 2.9)) and record.samples == ((2, "once upon"),)
    assert record.newest is told[-1]


def test_closing_ends_the_run_and_what_was_told_stays() -> None:
    monitor = RunMonitor()
    closed: list[int] = []
    work = monitor.watch(run({}, closed))
    for _ in range(4):
        next(work)
    work.close()
    assert closed == [3]
    newest = monitor.record().newest
    assert newest is not None and newest.adapter is not None and newest.adapter.name == "after 3"
