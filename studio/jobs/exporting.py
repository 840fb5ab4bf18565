"""Exporting a blend as a job: the exporter's own work, guarded."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from studio.contracts import Exported
from studio.errors import CancelledError, PluginError, SaveError, StudioError
from studio.formats.atomic import check_target
from studio.formats.atomic_folder import check_folder_target
from studio.lora.provenance import files_in_use

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from studio.contracts import Exporter, ExportRequest, Work

STACKED = "stacked adapter (GGUF)"
"""The name of the exporter that is offered first: it loses nothing, and llama.cpp loads it."""

_targets: set[Path] = set()
_targets_lock = threading.Lock()


def export(request: ExportRequest, exporter: Exporter, path: Path, options: Any) -> Work:
    """Write a blend with an exporter and return an `Exported`.

    Raises
    ------
    SaveError
        If the target cannot be written, is the base or an adapter in use, by whatever link, or another export
        writes to it now.
    PluginError
        If the exporter breaks down.
    """
    check = check_target if exporter.suffix else check_folder_target  # here, where no plugin can forget to
    check(path, protected=files_in_use(request))
    with _exclusively(path):
        try:
            result = yield from exporter.export(request, path, options)
        except (StudioError, CancelledError, OSError, MemoryError):
            raise
        except Exception as error:
            raise PluginError(
                f"it broke down: {type(error).__name__}: {error}", where=f"exporter {exporter.name}"
            ) from error
    return result if isinstance(result, Exported) else Exported(path)


@contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    """Let one export at a time write to a path."""
    target = path.resolve()
    with _targets_lock:
        if target in _targets:
            raise SaveError(
                "another export writes to this place now",
                path=path,
                remedy="Wait for it, or choose another name",
            )
        _targets.add(target)
    try:
        yield
    finally:
        with _targets_lock:
            _targets.remove(target)
