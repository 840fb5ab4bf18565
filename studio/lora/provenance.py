"""Where a blend comes from: the files that an export must leave alone, and what it says it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studio.contracts import DeltaAdapter, ExportRequest


def source_of(adapter: DeltaAdapter) -> Path | None:
    """Return the file or folder that an adapter was read from; None where it was made in memory."""
    source = getattr(adapter, "source", None)
    return source if isinstance(source, Path) else None


def source_name(adapter: DeltaAdapter) -> str:
    """Return the name of what an adapter was read from, or its own."""
    source = source_of(adapter)
    return source.name if source else adapter.name


def files_in_use(request: ExportRequest) -> list[Path]:
    """Return what an export must not overwrite: the base's files, and the adapters' files and folders."""
    sources = map(source_of, request.adapters.values())
    return [*request.base.files, *(source for source in sources if source is not None)]


def request_provenance(request: ExportRequest) -> dict[str, object]:
    """Say what an export was made of, as JSON has it: adapters by file name, and their scales."""
    channels = []
    for channel in request.state.channels:
        entry: dict[str, object] = {
            "adapter": source_name(request.adapters[channel.key]),
            "scale": channel.scale,
        }
        if channel.gains.by_module:
            entry["gains"] = dict(channel.gains.by_module)
        channels.append(entry)
    made: dict[str, object] = {"base": request.base.path.name, "adapters": channels}
    if request.combination is not None:
        made["method"] = request.combination.method.name
    return made
