"""Merging: the blend and its base as one GGUF file."""

from __future__ import annotations

from studio.api import Exporter, hookimpl
from studio_merge.exporter import MergedExporter


@hookimpl
def register_exporters() -> list[Exporter]:
    """Offer the export of base and blend as one model."""
    return [MergedExporter()]
