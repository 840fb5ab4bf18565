"""What opening brings back: a base with its tokenizer, an adapter with its report, a session's parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.contracts import BaseModel, ChannelState
    from studio.engine.tokenizer import Tokenizer
    from studio.errors import StudioError
    from studio.lora.dora import AnyAdapter
    from studio.lora.report import AdapterReport
    from studio.session.document import SessionDocument


@dataclass(frozen=True)
class AdapterSource:
    """Where to read an adapter from, and the values for its loader's options, by their names."""

    location: str | Path
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter bound to the base, its report, and the fingerprint of the files it was read from.

    `options` are the values that were given for its loader's options.
    """

    adapter: AnyAdapter
    report: AdapterReport
    location: str
    fingerprint: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenedBase:
    """An opened base and the adapters that were read again for it.

    Attributes
    ----------
    base
        The base model.
    location
        Where it was opened from: an absolute path or ``package:<distribution>/<file>``.
    fingerprint
        Tells whether the file has changed since (`studio.session.fingerprint`).
    tokenizer
        Its tokenizer, or None with the reason in `tokenizer_error`: then text is refused and the rest works.
    tokenizer_error
        Why there is no tokenizer.
    adapters
        The adapters that were asked for and fit, in the order they were asked for.
    failures
        Why the other adapters could not be loaded; each error names its file.
    """

    base: BaseModel
    location: str
    fingerprint: str
    tokenizer: Tokenizer | None
    tokenizer_error: StudioError | None = None
    adapters: tuple[LoadedAdapter, ...] = ()
    failures: tuple[StudioError, ...] = ()


@dataclass(frozen=True)
class OpenedDocument:
    """A session file and what could be opened of what it names.

    Attributes
    ----------
    path
        The session file.
    document
        What it says, with absolute locations.
    base
        The base with its adapters, or None where it is missing or cannot be opened.
    channels
        Where the controls of `base.adapters` stand, in the same order; the keys are empty until pushed.
    missing
        The locations that nothing was found at; opening again with `relinked` paths for them finds the files.
    left_out
        The locations of everything that could not be opened, missing or not.
    problems
        Everything to tell the user: files that are missing, changed or do not load.
    """

    path: Path
    document: SessionDocument
    base: OpenedBase | None
    channels: tuple[ChannelState, ...] = ()
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    problems: tuple[StudioError, ...] = ()
