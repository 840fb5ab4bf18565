"""ggla: the adapters of llama.cpp before GGUF."""

from __future__ import annotations

from studio.api import AdapterLoader, hookimpl
from studio_ggla.loader import GglaLoader


@hookimpl
def register_adapter_loaders() -> list[AdapterLoader]:
    """Offer the loader of ggla files."""
    return [GglaLoader()]
