from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from studio.contracts import Progress, Work
from studio.errors import CancelledError, FormatError
from studio.jobs.job import Job, JobState
from studio.jobs.runner import JobRunner


@pytest.fixture
def runner() -> Iterator[JobRunner]:
    runner = JobRunner()
    yield runner
    assert runner.join()


def counting(steps: int, pause: float = 0.0) -> Work:
    for done in range(steps):
        yield Progress(done, steps, f"step {done}")
        time.sleep(pause)
    return "counted"


def raising(error: BaseException) -> Work:
    yield Progress(0, 1)
    raise error


def waiting(started: threading.Event, closed: threading.Event) -> Work:
    try:
        while True:
            yield Progress(0, 0)
            started.set()
            time.sleep(0.001)
    finally:
        closed.set()


def test_work_runs_to_its_result(runner: JobRunner) -> None:
    job = runner.submit("Count", counting(3))
    assert job.wait(5)
    assert (job.title, job.state, job.result, job.error) == ("Count", "done", "counted", None)
    assert job.progress == Progress(2, 3, "step 2")
    assert job.finished and job.eta_seconds is None


def test_every_state_is_told_in_order(runner: JobRunner) -> None:
    states: list[JobState] = []
    runner.changed.connect(lambda job: states.append(job.state))
    runner.submit("Count", counting(1)).wait(5)
    assert [state for state, before in zip(states, [None, *states], strict=False) if state != before] == [
        "queued",
        "running",
        "done",
    ]


def test_progress_is_told_at_most_twenty_times_a_second(runner: JobRunner) -> None:
    notices: list[Job] = []
    runner.changed.connect(notices.append)
    started = time.monotonic()
    assert runner.submit("Count", counting(1000, pause=0.0005)).wait(20)
    took = time.monotonic() - started
    assert 3 < len(notices) <= 20 * took + 5


@pytest.mark.parametrize("kind", [RuntimeError, MemoryError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_work_raises_ends_the_job_alone(runner: JobRunner, kind: type[BaseException]) -> None:
    job = runner.submit("Fail", raising(kind("no")))
    assert job.wait(5)
    assert job.state == "failed"
    assert job.error is not None and isinstance(job.error.__cause__, kind)
    assert "Traceback" in job.error.__notes__[0]
    for _ in range(3):  # both threads live on
        assert runner.submit("Count", counting(1)).wait(5)


def test_a_readable_error_is_kept_as_it_is(runner: JobRunner) -> None:
    error = FormatError("it is damaged", remedy="Download it again")
    job = runner.submit("Fail", raising(error))
    assert job.wait(5)
    assert job.error is error


def test_work_that_says_it_was_cancelled_is_no_failure(runner: JobRunner) -> None:
    job = runner.submit("Give up", raising(CancelledError()))
    assert job.wait(5)
    assert (job.state, job.error) == ("cancelled", None)


def test_cancelling_closes_the_work_so_that_it_cleans_up(runner: JobRunner) -> None:
    started, closed = threading.Event(), threading.Event()
    job = runner.submit("Wait", waiting(started, closed))
    assert started.wait(5)
    job.cancel()
    assert job.wait(1)
    assert job.state == "cancelled" and closed.is_set()
    job.cancel()  # again, which does nothing
    assert job.state == "cancelled"


def test_a_queued_job_is_cancelled_at_once() -> None:
    runner = JobRunner(workers=1)
    started, closed = threading.Event(), threading.Event()
    runner.submit("Wait", waiting(started, closed))
    assert started.wait(5)
    queued = runner.submit("Count", counting(1))
    assert [job.title for job in runner.jobs] == ["Wait", "Count"]
    queued.cancel()
    assert queued.finished and queued.state == "cancelled"
    assert [job.title for job in runner.jobs] == ["Wait"]
    assert runner.join()


def test_joining_in_the_middle_of_jobs_cancels_them() -> None:
    runner = JobRunner()
    started, closed = threading.Event(), threading.Event()
    jobs = [runner.submit("Wait", waiting(started, closed)) for _ in range(4)]
    assert started.wait(5)
    assert runner.join(2)
    assert {job.state for job in jobs} == {"cancelled"}
    assert runner.join()
    with pytest.raises(RuntimeError, match="joined"):
        runner.submit("Count", counting(1))


def test_a_listener_that_fails_does_not_harm_the_job(
    runner: JobRunner, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Job) -> None:
        raise ZeroDivisionError

    runner.changed.connect(fail)
    job = runner.submit("Count", counting(3))
    assert job.wait(5)
    assert job.state == "done"
    assert "a listener failed" in caplog.text


def test_failed_work_lets_go_of_its_memory(runner: JobRunner) -> None:
    class Large:
        pass

    freed = threading.Event()

    def greedy(on_free: Callable[[], None]) -> Work:
        import weakref

        large = Large()
        weakref.finalize(large, on_free)
        yield Progress(0, 1)
        raise MemoryError

    job = runner.submit("Fill", greedy(freed.set))
    assert job.wait(5)
    assert job.error is not None and "memory" in job.error.message
    assert freed.is_set()


def test_long_work_keeps_no_other_waiting(runner: JobRunner) -> None:
    started, closed = threading.Event(), threading.Event()
    long = [runner.submit("Learn", waiting(started, closed), long=True) for _ in range(3)]
    assert runner.submit("Count", counting(3)).wait(5)
    assert runner.join()  # cancels the long ones, and waits for their threads
    assert [job.state for job in long] == ["cancelled"] * 3 and closed.is_set()
