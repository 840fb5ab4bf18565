"""Opening bases, adapters and session files as jobs: each yields its progress and returns plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from studio.contracts import BaseModel, Plugins, Work
    from studio.session.document import SessionDocument


def open_base(location: str | Path, plugins: Plugins, adapter_sources: Sequence[str | Path] = ()) -> Work:
    """Open a base with its tokenizer, read the given adapters for it, and return an `OpenedBase`.

    Parameters
    ----------
    location
        A path, or ``package:<distribution>/<file>``.
    plugins
        Whose loaders to use.
    adapter_sources
        Adapters to read for this base; one that fails goes to `OpenedBase.failures` and the rest go on.

    Raises
    ------
    FormatError
        If the file is damaged or no loader recognises it.
    """
    raise NotImplementedError


def load_adapter(location: str | Path, base: BaseModel | None, plugins: Plugins) -> Work:
    """Read an adapter, bind it to the base, and return a `LoadedAdapter`.

    Raises
    ------
    FormatError
        If it is damaged or no loader recognises it.
    MismatchError
        If it does not fit the base.
    """
    raise NotImplementedError


def open_document(path: Path, plugins: Plugins, relinked: Mapping[str, Path] | None = None) -> Work:
    """Open a session file and what it names; return an `OpenedDocument`.

    Missing and changed files do not stop it: they are listed in the result.

    Parameters
    ----------
    path
        The session file.
    plugins
        Whose loaders to use.
    relinked
        Where files are that the session file names elsewhere, by the location that `OpenedDocument.missing` gave.

    Raises
    ------
    SessionError
        If the session file itself cannot be read.
    """
    raise NotImplementedError


def save_document(path: Path, document: SessionDocument) -> Work:
    """Write a session file (`Session.document()`) and return its path; then call `Session.mark_saved`."""
    raise NotImplementedError
