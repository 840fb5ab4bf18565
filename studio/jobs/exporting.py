"""Exporting a blend as a job: the exporter's own work, guarded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from studio.contracts import Exporter, ExportRequest, Work


def export(request: ExportRequest, exporter: Exporter, path: Path, options: Any) -> Work:
    """Write a blend with an exporter and return the path.

    Raises
    ------
    SaveError
        If the target is the base or an adapter in use, by whatever link, or another export writes to it now.
    PluginError
        If the exporter breaks down.
    """
    raise NotImplementedError
