"""What stablelm, starcoder2 and gpt2 have in common: LayerNorm, with a bias beside each weight.

Ba et al. 2016, https://arxiv.org/abs/1607.06450.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.models.llama import OUTPUT_NORM, Llama
from studio.engine.operators import layer_norm, rotate_halves
from studio.engine.token_plan import NormPlan

if TYPE_CHECKING:
    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass
    from studio.engine.models.hyperparameters import ExpectedTensors, Sizes


def bias_of(norm: str) -> str:
    """Return the name of the bias of a norm."""
    return f"{norm.removesuffix('.weight')}.bias"


class LayerNormed(Llama):
    """A llama with LayerNorm, its rows in Hugging Face's order."""

    rotate = staticmethod(rotate_halves)
    epsilon_key = "attention.layer_norm_epsilon"

    def expected_tensors(self, size: Sizes) -> ExpectedTensors:
        """List every tensor that the base must or may have."""
        tensors = super().expected_tensors(size)
        for norm in self.norms:
            tensors.require(bias_of(norm), size.width)
        return tensors

    @property
    def norms(self) -> tuple[str, ...]:
        """The weights of the norms over the whole width."""
        return (*(norm for layer in self.layers for norm in layer.norms), OUTPUT_NORM)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The weights and the biases of the norms."""
        return (*self.norms, *map(bias_of, self.norms))

    def norm_plan(self, name: str) -> NormPlan:
        """Tell the norm of this name as data."""
        return NormPlan(name, bias_of(name), centred=True)

    def norm(self, run: ForwardPass, x: Array, name: str) -> Array:
        """Normalise columns by the norm of this name."""
        return layer_norm(run.xp, x, run.vector(name), run.vector(bias_of(name)), self.epsilon)
