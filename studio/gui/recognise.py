"""Says what dropped files are, by their content, through the plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from studio.contracts import Progress
from studio.jobs.finding import holds_adapter, recognising

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from studio.contracts import Plugins

Kind: TypeAlias = Literal["base", "adapter", "session", "unknown"]


def recognise(
    paths: Sequence[Path], plugins: Plugins
) -> Generator[Progress, None, tuple[tuple[Path, Kind], ...]]:
    """Work that pairs each path with what it is; it reads files, so it runs as a job."""
    kinds: list[tuple[Path, Kind]] = []
    for index, path in enumerate(paths):
        yield Progress(index, len(paths), path.name)
        kinds.append((path, kind_of(path, plugins)))
    return tuple(kinds)


def kind_of(path: Path, plugins: Plugins) -> Kind:
    """Say what one file or folder is. Adapters are asked for first: they are the narrower formats."""
    if recognising(path, plugins.adapter_loaders):
        return "adapter"
    if recognising(path, plugins.model_loaders):
        return "base"
    if holds_adapter(path, plugins.adapter_loaders):
        return "adapter"
    return "session" if _looks_like_json(path) else "unknown"


def _looks_like_json(path: Path) -> bool:
    """Say whether a file begins as a session file does; reading it tells the rest."""
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip().startswith(b"{")
    except OSError:  # a folder, or gone
        return False
