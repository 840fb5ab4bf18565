"""Apple's MLX-LM: adapters as directories."""

from __future__ import annotations

from studio.api import AdapterLoader, Exporter, hookimpl
from studio_mlx.exporter import MlxExporter
from studio_mlx.loader import MlxLoader


@hookimpl
def register_adapter_loaders() -> list[AdapterLoader]:
    """Offer the loader of MLX-LM directories."""
    return [MlxLoader()]


@hookimpl
def register_exporters() -> list[Exporter]:
    """Offer the export as an MLX-LM directory."""
    return [MlxExporter()]
