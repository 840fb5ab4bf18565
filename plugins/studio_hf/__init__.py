"""Hugging Face model folders: the blend merged into its base, as safetensors with a configuration."""

from __future__ import annotations

from studio.api import Exporter, hookimpl
from studio_hf.exporter import HuggingFaceExporter


@hookimpl
def register_exporters() -> list[Exporter]:
    """Offer the merged model."""
    return [HuggingFaceExporter()]
