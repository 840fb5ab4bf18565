"""Opening and saving session files as jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from studio import resources
from studio.contracts import ChannelState, Progress
from studio.errors import SessionError, StudioError
from studio.jobs.opening import open_base, read_adapter
from studio.lora.gains import from_stored
from studio.session.document import read_document, write_document
from studio.session.opened import OpenedDocument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import Plugins, Work
    from studio.session.document import AdapterEntry, BaseEntry, SessionDocument
    from studio.session.opened import LoadedAdapter, OpenedBase


def open_document(path: Path, plugins: Plugins, relinked: Mapping[str, Path] | None = None) -> Work:
    """Open a session file and what it names; return an `OpenedDocument`.

    Missing and changed files do not stop it: they are listed in the result. Without its base no adapter is
    read.

    Parameters
    ----------
    path
        The session file.
    plugins
        Whose loaders to use.
    relinked
        Where files are now, by the location that `OpenedDocument.missing` gave.

    Raises
    ------
    SessionError
        If the session file itself cannot be read.
    """
    yield Progress(0, 0, f"Reading {path.name}")
    document = _relink(read_document(path), relinked or {})
    entries = [entry for entry in (document.base, *document.adapters) if entry is not None]
    missing = [entry.location for entry in entries if not _exists(entry.location)]
    problems: list[StudioError] = [_missing_error(location) for location in missing]
    base: OpenedBase | None = None
    pairs: list[tuple[AdapterEntry, LoadedAdapter]] = []
    if document.base is not None and document.base.location not in missing:
        try:
            base = yield from open_base(document.base.location, plugins)
            assert base is not None
            problems += _changes(document.base, base.fingerprint)
        except StudioError as error:
            problems.append(error)
    if base is not None:
        try:
            for number, entry in enumerate(document.adapters):
                yield Progress(number, len(document.adapters), f"Reading {Path(entry.location).name}")
                if entry.location in missing:
                    continue
                try:
                    loaded = read_adapter(entry.location, base.base, plugins, entry.options)
                except StudioError as error:
                    problems.append(error)
                    continue
                problems += _changes(entry, loaded.fingerprint)
                pairs.append((entry, loaded))
        except BaseException:  # cancelling closes this generator with GeneratorExit
            base.base.close()
            raise
    opened = [document.base if base else None, *(entry for entry, _ in pairs)]
    return OpenedDocument(
        path=path,
        document=document,
        base=base and replace(base, adapters=tuple(loaded for _, loaded in pairs)),
        channels=tuple(_channel(entry, loaded) for entry, loaded in pairs),
        missing=tuple(missing),
        left_out=tuple(entry.location for entry in entries if not any(entry is one for one in opened)),
        problems=tuple(problems),
    )


def save_document(path: Path, document: SessionDocument) -> Work:
    """Write a session file (`Session.document()`) and return its path; then call `Session.mark_saved`.

    Raises
    ------
    SaveError
        If it cannot be written; what stood at the path is unchanged.
    """
    yield Progress(0, 1, f"Saving {path.name}")
    write_document(path, document)
    return path


def _channel(entry: AdapterEntry, loaded: LoadedAdapter) -> ChannelState:
    """Return where the controls of an adapter stood; gains of modules that it no longer has are dropped."""
    gains = from_stored(entry.gains, loaded.adapter.modules)
    return ChannelState("", entry.scale, entry.muted, entry.soloed, gains)


def _relink(document: SessionDocument, relinked: Mapping[str, Path]) -> SessionDocument:
    """Put the new locations in the place of those that were missing."""

    def now(location: str) -> str:
        return str(relinked[location].absolute()) if location in relinked else location

    base = document.base
    return msgspec.structs.replace(
        document,
        base=base and msgspec.structs.replace(base, location=now(base.location)),
        adapters=tuple(
            msgspec.structs.replace(entry, location=now(entry.location)) for entry in document.adapters
        ),
    )


def _exists(location: str) -> bool:
    try:
        return resources.resolve(location).exists()
    except (StudioError, OSError, ValueError):  # no such package, or a name the system does not take
        return False


def _missing_error(location: str) -> SessionError:
    return SessionError(
        "the session names it, but it is not there",
        path=Path(location),
        remedy="Show where it is now, or go on without it",
    )


def _changes(entry: BaseEntry | AdapterEntry, fingerprint: str) -> list[StudioError]:
    """Return a warning where a file is not what it was when the session was saved."""
    if entry.fingerprint in ("", fingerprint):
        return []
    return [
        SessionError(
            "it has changed since the session was saved",
            path=Path(entry.location),
            remedy="Save the session again if the new one is right",
        )
    ]
