"""The hooks of LoRA Studio, on one screen: what a plugin can register.

A plugin is a module named by an entry point of the group ``lora_studio``; it marks its functions with
``@studio.api.hookimpl``. Each hook runs once, at start-up, and returns a list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from studio.contracts import (
        AdapterLoader,
        CombineMethod,
        Exporter,
        ModelLoader,
        Optimiser,
        PanelSpec,
        Trainer,
    )

PROJECT = "lora_studio"
"""The name of the markers and of the entry point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_model_loaders() -> list[ModelLoader]:  # type: ignore[empty-body]
    """Return loaders that open base models of one format each."""


@hookspec
def register_adapter_loaders() -> list[AdapterLoader]:  # type: ignore[empty-body]
    """Return loaders that read adapters of one format each."""


@hookspec
def register_exporters() -> list[Exporter]:  # type: ignore[empty-body]
    """Return exporters that write a blend to one file each."""


@hookspec
def register_combine_methods() -> list[CombineMethod]:  # type: ignore[empty-body]
    """Return methods that make one delta of several."""


@hookspec
def register_trainers() -> list[Trainer]:  # type: ignore[empty-body]
    """Return trainers that make adapters from examples in one way each."""


@hookspec
def register_optimisers() -> list[Optimiser]:  # type: ignore[empty-body]
    """Return rules by which parameters follow their gradients."""


@hookspec
def register_panels() -> list[PanelSpec]:  # type: ignore[empty-body]
    """Return docks by title and ``module:factory``; the factory is imported when its dock is first shown."""
