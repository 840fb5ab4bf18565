"""safetensors: the bare weights of an adapter, without the configuration that knows their alpha."""

from __future__ import annotations

from studio.api import AdapterLoader, hookimpl
from studio_safetensors.loader import SafetensorsLoader


@hookimpl
def register_adapter_loaders() -> list[AdapterLoader]:
    """Offer the loader of bare safetensors files."""
    return [SafetensorsLoader()]
