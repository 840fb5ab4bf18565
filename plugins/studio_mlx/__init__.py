"""Apple's MLX-LM: adapters as directories."""

from __future__ import annotations

from studio.api import AdapterLoader, hookimpl
from studio_mlx.loader import MlxLoader


@hookimpl
def register_adapter_loaders() -> list[AdapterLoader]:
    """Offer the loader of MLX-LM directories."""
    return [MlxLoader()]
