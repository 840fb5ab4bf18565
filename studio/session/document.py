"""The session file: versioned JSON that names a base and adapters and says where the mixer's controls stand."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec

from studio import resources
from studio.contracts import Sampling
from studio.errors import SessionError
from studio.formats.atomic import write_atomically
from studio.session.prompt import Prompt

VERSION = 1
"""The version this studio writes, and the latest it reads."""

LARGEST_FILE = 16 * 2**20
"""Session files above this many bytes are refused unread."""

SUFFIX = ".lorastudio.json"
"""How session files are named by default."""

Location = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Fingerprint = Annotated[str, msgspec.Meta(max_length=128)]


class BaseEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base: where it is, and the fingerprint it had."""

    location: Location
    fingerprint: Fingerprint = ""


class AdapterEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One adapter: where it is, the fingerprint it had, and where its controls stand."""

    location: Location
    fingerprint: Fingerprint = ""
    scale: float = 1.0
    muted: bool = False
    soloed: bool = False


class SessionDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a session file stores.

    In memory locations are absolute paths or ``package:<distribution>/<file>``; in the file, paths are relative to
    its folder, with forward slashes. An empty fingerprint means: not known, do not compare.
    """

    version: int = VERSION
    base: BaseEntry | None = None
    adapters: Annotated[tuple[AdapterEntry, ...], msgspec.Meta(max_length=1000)] = ()
    master: float = 1.0
    prompt: Prompt = Prompt()
    sampling: Sampling = Sampling()


def read_document(path: Path) -> SessionDocument:
    """Read a session file; the files it names are not looked at.

    Raises
    ------
    SessionError
        If the file is missing, too large, damaged, or of a later version.
    """
    raise NotImplementedError


def write_document(path: Path, document: SessionDocument) -> None:
    """Write a session file atomically. Refuses to write over the base or an adapter that it names.

    Raises
    ------
    SaveError
        If it cannot be written; what stood at the path is unchanged.
    """
    raise NotImplementedError
