"""PEFT directories: ``adapter_config.json`` beside ``adapter_model.safetensors``."""

from __future__ import annotations

from studio.api import AdapterLoader, hookimpl
from studio_peft.loader import PeftLoader


@hookimpl
def register_adapter_loaders() -> list[AdapterLoader]:
    """Offer the loader of PEFT directories."""
    return [PeftLoader()]
