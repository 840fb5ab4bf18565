"""PEFT directories: ``adapter_config.json`` beside ``adapter_model.safetensors``."""

from __future__ import annotations

from studio.api import AdapterLoader, Exporter, hookimpl
from studio_peft.exporter import PeftExporter
from studio_peft.loader import PeftLoader


@hookimpl
def register_adapter_loaders() -> list[AdapterLoader]:
    """Offer the loader of PEFT directories."""
    return [PeftLoader()]


@hookimpl
def register_exporters() -> list[Exporter]:
    """Offer the export as a PEFT directory."""
    return [PeftExporter()]
