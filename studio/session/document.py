"""The session file: versioned JSON that names base and adapters and says where the mixer's controls stand."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import msgspec

from studio import resources
from studio.contracts import Sampling
from studio.errors import SessionError, StudioError
from studio.formats.atomic import write_atomically
from studio.lora.gains import read_layers
from studio.lora.stack import LARGEST_SCALE
from studio.session.limits import check_limits
from studio.session.prompt import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 2
"""The latest version this studio reads. It writes the earliest that can hold a session: 2 has gains."""

LARGEST_FILE = 16 * 2**20
"""Session files above this many bytes are refused unread."""

MOST_ADAPTERS = 1000
"""A session file that names more adapters is refused."""

Scale = Annotated[float, msgspec.Meta(ge=-LARGEST_SCALE, le=LARGEST_SCALE)]
Location = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Fingerprint = Annotated[str, msgspec.Meta(max_length=128)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
LayerGains = Annotated[dict[Name, Scale], msgspec.Meta(max_length=1000)]
GainsByTarget = Annotated[dict[Name, Scale | LayerGains], msgspec.Meta(max_length=1000)]
Options = Annotated[dict[str, object], msgspec.Meta(max_length=1000)]


class BaseEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base: where it is, and the fingerprint it had."""

    location: Location
    fingerprint: Fingerprint = ""


class AdapterEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One adapter: where it is, the fingerprint it had, where its controls stand, its loader's options.

    Gains are in the short form of `studio.lora.gains`.
    """

    location: Location
    fingerprint: Fingerprint = ""
    scale: Scale = 1.0
    muted: bool = False
    soloed: bool = False
    gains: GainsByTarget = {}
    options: Options = {}


class SessionDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a session file stores.

    In memory locations are absolute paths or ``package:<distribution>/<file>``; in the file, paths are
    relative to its folder, with forward slashes. An empty fingerprint means: not known, do not compare.
    """

    version: int = VERSION
    base: BaseEntry | None = None
    adapters: Annotated[tuple[AdapterEntry, ...], msgspec.Meta(max_length=MOST_ADAPTERS)] = ()
    master: Scale = 1.0
    prompt: Prompt = Prompt()
    sampling: Sampling = Sampling()


def read_document(path: Path) -> SessionDocument:
    """Read a session file; the files it names are not looked at.

    Raises
    ------
    SessionError
        If the file is missing, too large, damaged, or of a later version.
    """
    data = _read_bytes(path)
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version > VERSION:
            raise SessionError(
                f"this session was saved by a later LoRA Studio (format {version}, this one reads {VERSION})",
                path=path,
                remedy="Update LoRA Studio",
            )
        document = msgspec.json.decode(data, type=SessionDocument)
        check_limits(document.sampling)
        for entry in document.adapters:
            check_layers(entry.gains)
        document = msgspec.structs.replace(document, version=VERSION)
    except SessionError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, StudioError) as error:
        raise _damaged(path, str(error)) from None
    return _with_locations(document, lambda location: _absolute(location, path.absolute().parent))


def write_document(path: Path, document: SessionDocument) -> None:
    """Write a session file atomically. Refuses to write over the base or an adapter that it names.

    Raises
    ------
    SaveError
        If it cannot be written; what stood at the path is unchanged.
    """
    stored = _with_locations(document, lambda location: _relative(location, path.absolute().parent))
    stored = msgspec.structs.replace(stored, version=2 if any(one.gains for one in document.adapters) else 1)
    data = msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n"
    named = [entry.location for entry in (document.base, *document.adapters) if entry is not None]
    write_atomically(
        path,
        lambda temporary: _write_bytes(temporary, data),
        verify=lambda temporary: _check_bytes(temporary, data),
        protected=[Path(location) for location in named if not resources.is_package_reference(location)],
    )


def check_layers(gains: GainsByTarget) -> None:
    """Refuse gains whose layers cannot be read. Raises `StudioError` naming the target."""
    for target, rule in gains.items():
        for layers in rule if isinstance(rule, dict) else ():
            try:
                read_layers(layers)
            except StudioError as error:
                raise StudioError(error.message, where=f"gains.{target}", remedy=error.remedy) from None


def read_gains(data: bytes, path: Path | None = None) -> GainsByTarget:
    """Read gains in the short form of `studio.lora.gains` from a JSON object.

    Raises
    ------
    SessionError
        If it is none.
    """
    try:
        if len(data) > LARGEST_FILE:
            raise SessionError(f"it is larger than {LARGEST_FILE // 2**20} MiB")
        gains = msgspec.json.decode(data, type=GainsByTarget)
        check_layers(gains)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, StudioError) as error:
        raise SessionError(
            f"these are no gains: {error}",
            path=path,
            remedy='Write an object such as {"attn_q": 0.5, "ffn_up": {"0-9": 0}}',
        ) from None
    return gains


class _Versioned(msgspec.Struct):
    """The one field that every version of the format has."""

    version: Annotated[int, msgspec.Meta(ge=1)]


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SessionError(
            f"the session cannot be read: {error.strerror}", path=path, remedy="Check that the file is there"
        ) from error
    if len(data) > LARGEST_FILE:
        raise _damaged(path, f"it is larger than {LARGEST_FILE // 2**20} MiB")
    return data


def _damaged(path: Path, reason: str) -> SessionError:
    return SessionError(
        f"this is not a sound session file: {reason}",
        path=path,
        remedy="Choose another file, or mend it by hand",
    )


def _with_locations(document: SessionDocument, change: Callable[[str], str]) -> SessionDocument:
    base = document.base
    return msgspec.structs.replace(
        document,
        base=base and msgspec.structs.replace(base, location=change(base.location)),
        adapters=tuple(
            msgspec.structs.replace(entry, location=change(entry.location)) for entry in document.adapters
        ),
    )


def _absolute(location: str, folder: Path) -> str:
    """Turn what the file says into an absolute path; a reference into a package stays."""
    if resources.is_package_reference(location):
        return location
    return os.path.normpath(folder / location)


def _relative(location: str, folder: Path) -> str:
    """Turn an absolute path into one relative to the folder, with forward slashes."""
    if resources.is_package_reference(location):
        return location
    try:
        relative = os.path.relpath(location, folder)
    except ValueError:  # another drive on Windows
        relative = location
    return PurePath(relative).as_posix()


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _check_bytes(path: Path, data: bytes) -> None:
    if path.read_bytes() != data:
        raise OSError("the file does not hold what was written")
