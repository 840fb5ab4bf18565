"""Linear layers whose weights are in NF4, and the layers of a model turned into such."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.formats.nf4 import Nf4Tensor, quantise_nf4
from studio.lora.layers import FrozenLinear, LinearInfo, LinearLayer

if TYPE_CHECKING:
    from studio.lora.layers import Model


class Nf4Linear(FrozenLinear):
    """A linear layer y = W x whose weight is in NF4, and is turned into floats each time it is needed.

    Parameters
    ----------
    name
        The name that it has in its model.
    tensor
        The weight W, ``(out, in)``.
    """

    def __init__(self, name: str, tensor: Nf4Tensor) -> None:
        out, width = tensor.shape
        super().__init__(name, LinearInfo(width, out), tensor.dense)
        self.tensor = tensor


def quantise_layers(model: Model) -> None:
    """Turn the weights of a model's linear layers into NF4; layers with LoRA stay as they are."""
    for name, layer in dict(model.layers).items():
        if isinstance(layer, LinearLayer) and not isinstance(layer, Nf4Linear) and not layer.parameters:
            model.replace_layer(name, Nf4Linear(name, quantise_nf4(layer.weight)))
