"""Apple's MLX-LM: adapters as directories."""

from __future__ import annotations

from studio.api import Exporter, hookimpl
from studio_mlx.exporter import MlxExporter


@hookimpl
def register_exporters() -> list[Exporter]:
    """Offer the export as an MLX-LM directory."""
    return [MlxExporter()]
