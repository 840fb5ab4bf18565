"""GGUF: base models, llama.cpp's adapters, and the blend as one stacked adapter."""

from __future__ import annotations

from studio.api import AdapterLoader, Exporter, ModelLoader, hookimpl
from studio_gguf.adapter import GgufAdapterLoader
from studio_gguf.base import GgufBaseLoader
from studio_gguf.stacked import StackedExporter


@hookimpl
def register_model_loaders() -> list[ModelLoader]:
    """Offer the loader of GGUF models."""
    return [GgufBaseLoader()]


@hookimpl
def register_adapter_loaders() -> list[AdapterLoader]:
    """Offer the loader of llama.cpp's GGUF adapters."""
    return [GgufAdapterLoader()]


@hookimpl
def register_exporters() -> list[Exporter]:
    """Offer the export of the blend as one adapter."""
    return [StackedExporter()]
