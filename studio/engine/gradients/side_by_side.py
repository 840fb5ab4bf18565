"""Work on threads of its own: all of it is done, or none of it goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from studio.engine.blas_threads import one_blas_thread
from studio.errors import CancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Result = TypeVar("Result")


def side_by_side(jobs: Sequence[Callable[[], Result]], give_up: Callable[[], None]) -> list[Result]:
    """Do jobs on a thread each, the first on this one; BLAS keeps to the thread that calls it meanwhile.

    Parameters
    ----------
    jobs
        At least one.
    give_up
        Called where one fails: the others are to raise `CancelledError` instead of waiting for it.

    Raises
    ------
    BaseException
        What a job raised; `CancelledError` only where nothing else was.
    """
    first, *rest = jobs
    if not rest:
        return [first()]

    def guarded(job: Callable[[], Result]) -> Result:
        try:
            return job()
        except BaseException:
            give_up()
            raise

    errors: list[BaseException] = []
    results: list[Result] = []
    with one_blas_thread(), ThreadPoolExecutor(len(rest), thread_name_prefix="part") as pool:
        others = [pool.submit(guarded, job) for job in rest]
        outcomes: list[Callable[[], Result]] = [partial(guarded, first), *(other.result for other in others)]
        for outcome in outcomes:
            try:
                results.append(outcome())
            except BaseException as error:
                errors.append(error)
    if errors:
        raise next((error for error in errors if not isinstance(error, CancelledError)), errors[0])
    return results
