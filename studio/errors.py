"""The error kinds of the studio: each says what is wrong, where, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class StudioError(Exception):
    """A problem the user can understand and act on.

    Parameters
    ----------
    message
        What is wrong, in one sentence without a full stop.
    path
        The file or folder the problem is in.
    where
        The metadata key, tensor or module the problem is in.
    remedy
        What the user can do about it, in one sentence without a full stop.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | None = None,
        where: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        """Give the whole message on one line: place, problem, remedy."""
        place = ": ".join(str(part) for part in (self.path, self.where) if part is not None)
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}. {self.remedy}." if self.remedy else text


class FormatError(StudioError):
    """A file is damaged, hostile, or not what its name says."""


class MismatchError(StudioError):
    """Two things that are sound by themselves do not fit together, such as an adapter and a base."""


class UnsupportedError(StudioError):
    """The file is sound, but the studio cannot do this with it (an unknown architecture, say)."""


class SaveError(StudioError):
    """A file could not be written; whatever stood at the target is unchanged."""


class SessionError(StudioError):
    """A session file is damaged, from a later version, or points at files that moved or changed."""


class EngineError(StudioError):
    """The engine cannot run: no base is open, the device failed, or the input is out of range."""


class NotFiniteError(EngineError):
    """Numbers of a blend left float32: it is too loud, or what it learns came too far in a step."""


class PluginError(StudioError):
    """A plugin failed or broke its contract; the rest of the studio goes on without it."""


class CancelledError(Exception):
    """Work was stopped on request. Not an error to show: whoever cancelled already knows."""
