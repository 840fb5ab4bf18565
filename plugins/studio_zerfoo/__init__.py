"""zerfoo: adapters in its two GGUF dialects."""

from __future__ import annotations

from studio.api import AdapterLoader, Exporter, hookimpl
from studio_zerfoo.exporter import ZerfooExporter
from studio_zerfoo.loader import ZerfooLoader


@hookimpl
def register_adapter_loaders() -> list[AdapterLoader]:
    """Offer the loader of zerfoo's adapters."""
    return [ZerfooLoader()]


@hookimpl
def register_exporters() -> list[Exporter]:
    """Offer the export as an adapter of zerfoo's."""
    return [ZerfooExporter()]
