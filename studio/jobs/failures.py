"""Turns whatever work raises into an error to show."""

from __future__ import annotations

import traceback

from studio.errors import StudioError


def as_studio_error(error: BaseException) -> StudioError:
    """Return a `StudioError` as it is, and anything else wrapped in one.

    A wrapped error keeps the original as its cause and the traceback as text in its notes. The frames are
    cleared, so that the arrays of failed work are freed however long the error is shown.
    """
    if isinstance(error, StudioError):
        wrapped = error
    else:
        wrapped = _wrap(error)
        wrapped.__cause__ = error
        wrapped.add_note("".join(traceback.format_exception(error)))
    traceback.clear_frames(error.__traceback__)
    return wrapped


def _wrap(error: BaseException) -> StudioError:
    if isinstance(error, MemoryError):
        return StudioError("there is not enough memory for this", remedy="Close other programs and try again")
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        return StudioError(message, remedy="Check that the path exists and may be used")
    message = traceback.format_exception_only(error)[-1].strip()  # it copes with a __str__ that raises
    return StudioError(message, remedy="Copy the report and tell us")
