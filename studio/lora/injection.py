"""LoRA put into a model's layers, taken out as an adapter, and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.errors import MismatchError
from studio.lora.adapter import Adapter, listing
from studio.lora.layers import LinearLayer, Model
from studio.lora.linear import LoraLinear
from studio.lora.nf4_linear import Nf4Linear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import FloatArray
    from studio.formats.nf4 import Nf4Tensor
    from studio.lora.initial import Start


def inject_lora(
    model: Model,
    rank: int,
    alpha: float,
    targets: Sequence[str],
    *,
    start: Start = "kaiming",
    seed: int | None = None,
) -> tuple[str, ...]:
    """Wrap the linear layers that `targets` name in `LoraLinear`, and return their names.

    Their weights are frozen from then on; only A and B are parameters.

    Parameters
    ----------
    model
        Its layers are replaced.
    rank, alpha, start, seed
        As of `LoraLinear`.
    targets
        A layer's whole name, or its end after a dot: ``attn_q`` is ``blk.3.attn_q.weight``, ``q_proj`` is
        ``layers.3.q_proj``.

    Raises
    ------
    MismatchError
        A target names no linear layer.
    """
    linear = {
        name: layer
        for name, layer in model.layers.items()
        if isinstance(layer, LinearLayer) and not isinstance(layer, LoraLinear)
    }
    missing = [target for target in targets if not any(_names(target, name) for name in linear)]
    if missing or not targets:
        raise MismatchError(
            f"no linear layer is called {listing(missing)}" if missing else "no targets are named",
            remedy=f"There are {listing(list(linear), 3)}" if linear else "The model has no linear layer",
        )
    chosen = [name for name in linear if any(_names(target, name) for target in targets)]
    random = np.random.default_rng(seed)
    wrapped = {
        name: LoraLinear(
            _frozen_weight(linear[name]),
            rank,
            alpha,
            start=start,
            seed=int(random.integers(2**63)),
            name=name,
        )
        for name in chosen
    }
    for name, layer in wrapped.items():
        model.replace_layer(name, layer)
    return tuple(chosen)


def adapter_of(model: Model, name: str = "adapter") -> Adapter:
    """Return what the `LoraLinear` layers of a model hold as an adapter, each under its layer's name.

    Raises
    ------
    MismatchError
        The model has none.
    """
    layers = _lora_layers(model)
    if not layers:
        raise MismatchError("no layer of the model has LoRA", remedy="Call inject_lora first")
    architecture = getattr(model, "architecture", None)
    return Adapter(
        name,
        {name: layer.factors for name, layer in layers.items()},
        format="trainable",
        architecture=architecture if isinstance(architecture, str) else None,
        trainable=True,
    )


def restore_adapter(model: Model, adapter: Adapter) -> None:
    """Put an adapter's factors into the `LoraLinear` layers of the same names: all of them, or none.

    Raises
    ------
    MismatchError
        The model lacks LoRA in a layer that the adapter acts on, or a shape differs.
    """
    layers = _lora_layers(model)
    missing = [module for module in adapter.factors if module not in layers]
    if missing or not adapter.factors:
        raise MismatchError(
            f"the model has no LoRA in {listing(missing, 3)}" if missing else "the adapter is empty",
            path=adapter.source,
            remedy="Inject LoRA into these layers first",
        )
    for module, factors in adapter.factors.items():
        layers[module].check_factors(factors)
    for module, factors in adapter.factors.items():
        layers[module].factors = factors


def total_param_count(model: Model) -> int:
    """Count all numbers in the model's layers, the frozen ones included."""
    return sum(layer.total_params for layer in model.layers.values())


def trainable_param_count(model: Model) -> int:
    """Count the numbers that training may change."""
    return sum(
        int(parameter.value.size)
        for layer in model.layers.values()
        for parameter in layer.parameters.values()
    )


def _lora_layers(model: Model) -> dict[str, LoraLinear]:
    return {name: layer for name, layer in model.layers.items() if isinstance(layer, LoraLinear)}


def _frozen_weight(layer: LinearLayer) -> FloatArray | Nf4Tensor:
    """Return a layer's weight as small as the layer holds it."""
    return layer.tensor if isinstance(layer, Nf4Linear) else layer.weight


def _names(target: str, layer: str) -> bool:
    """Say whether a target means a layer."""
    plain = layer.removesuffix(".weight")
    return target in (layer, plain) or plain.endswith(f".{target}")
