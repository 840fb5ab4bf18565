"""Exporting a blend as a job: the exporter's own work, guarded."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import CancelledError, PluginError, SaveError, StudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from studio.contracts import Exporter, ExportRequest, Work

_targets: set[Path] = set()
_targets_lock = threading.Lock()


def export(request: ExportRequest, exporter: Exporter, path: Path, options: Any) -> Work:
    """Write a blend with an exporter and return the path.

    Raises
    ------
    SaveError
        If the target is the base or an adapter in use, by whatever link, or another export writes to it now.
    PluginError
        If the exporter breaks down.
    """
    _refuse_files_in_use(request, path)
    with _exclusively(path):
        try:
            yield from exporter.export(request, path, options)
        except (StudioError, CancelledError, OSError, MemoryError):
            raise
        except Exception as error:
            raise PluginError(
                f"it broke down: {type(error).__name__}: {error}", where=f"exporter {exporter.name}"
            ) from error
    return path


def _refuse_files_in_use(request: ExportRequest, path: Path) -> None:
    """Check what every exporter must not overwrite, so that a plugin cannot forget to."""
    if not path.exists():
        return
    sources = [getattr(adapter, "source", None) for adapter in request.adapters.values()]
    for source in [request.base.path, *(source for source in sources if isinstance(source, Path))]:
        for file in source.iterdir() if source.is_dir() else [source]:
            if file.exists() and os.path.samefile(file, path):
                raise SaveError(f"this is {file}, which is in use", path=path, remedy="Choose another name")


@contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    """Let one export at a time write to a path."""
    target = path.resolve()
    with _targets_lock:
        if target in _targets:
            raise SaveError(
                "another export writes to this file now",
                path=path,
                remedy="Wait for it, or choose another name",
            )
        _targets.add(target)
    try:
        yield
    finally:
        with _targets_lock:
            _targets.remove(target)
