"""zerfoo: adapters in its two GGUF dialects."""

from __future__ import annotations

from studio.api import Exporter, hookimpl
from studio_zerfoo.exporter import ZerfooExporter


@hookimpl
def register_exporters() -> list[Exporter]:
    """Offer the export as an adapter of zerfoo's."""
    return [ZerfooExporter()]
