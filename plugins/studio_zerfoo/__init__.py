"""zerfoo: adapters in its two GGUF dialects."""

from __future__ import annotations

from studio.api import AdapterLoader, hookimpl
from studio_zerfoo.loader import ZerfooLoader


@hookimpl
def register_adapter_loaders() -> list[AdapterLoader]:
    """Offer the loader of zerfoo's adapters."""
    return [ZerfooLoader()]
