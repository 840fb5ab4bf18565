"""What is asked of an engine that learns: losses of texts, and how they change with the adapters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from studio.contracts.engine import Engine
from studio.contracts.work import Cancelled, never

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studio.contracts.mixer import BlendState
    from studio.contracts.models import FloatArray


@dataclass(frozen=True)
class Example:
    """A sequence to learn from.

    Attributes
    ----------
    tokens
        At least two.
    weights
        One a token: how much its prediction counts, 0 for what is only read. Nothing predicts the first
        token, so its weight counts for nothing.
    """

    tokens: tuple[int, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, tokens: Sequence[int], first: int = 1) -> Example:
        """Let every token from the given position on count as one."""
        return cls(tuple(tokens), tuple(float(index >= first) for index in range(len(tokens))))

    @property
    def weight(self) -> float:
        """How much all its predictions count."""
        return sum(self.weights[1:])


@dataclass(frozen=True)
class Loss:
    """Negative log-likelihood.

    Attributes
    ----------
    total
        The sum over all predictions, each times its weight, in nats.
    weight
        The sum of the weights.
    """

    total: float
    weight: float

    @property
    def mean(self) -> float:
        """Nats a token."""
        return self.total / self.weight

    def __add__(self, other: Loss) -> Loss:
        """Add the losses of other examples."""
        return Loss(self.total + other.total, self.weight + other.weight)


@dataclass(frozen=True)
class FactorGradients:
    """The gradient of a total loss with respect to the factors of one module, in their shapes."""

    a: FloatArray
    b: FloatArray


@dataclass(frozen=True)
class Gradients:
    """A loss, and the gradients of its total.

    Attributes
    ----------
    loss
        Over all examples.
    scales
        By channel and module, those with respect to what the delta is multiplied by there: the channel's
        scale times its gain.
    factors
        By module, those with respect to the factors of the adapter that was asked for.
    """

    loss: Loss
    scales: Mapping[str, Mapping[str, float]]
    factors: Mapping[str, FactorGradients] = field(default_factory=dict)


@dataclass(frozen=True)
class GradientMemory:
    """What gradients take in memory beside the weights, the adapters and the gradients themselves.

    Attributes
    ----------
    needed
        Bytes.
    available
        Bytes that can be taken now; None where nothing tells.
    is_short
        Whether memory is so short that every layer runs a second time, and less is remembered.
    """

    needed: int
    available: int | None
    is_short: bool

    @property
    def fits(self) -> bool:
        """Whether there is enough."""
        return self.available is None or self.needed <= self.available


@dataclass(frozen=True)
class Dropout:
    """Which part of the inputs of the trained adapter is left out, and the seed of the choice.

    Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html; as Hu et al. 2021,
    https://arxiv.org/abs/2106.09685, place it. Weights that share their input share the choice.
    """

    rate: float = 0.0
    seed: int = 0


NO_DROPOUT = Dropout()


@runtime_checkable
class LearningEngine(Engine, Protocol):
    """An engine that tells losses and their gradients."""

    def losses(
        self, examples: Sequence[Example], states: Sequence[BlendState], *, cancelled: Cancelled = never
    ) -> list[Loss]:
        """Return the loss of all examples under each of several blends, many at once."""

    def gradient_memory(self, examples: Sequence[Example]) -> GradientMemory:
        """Estimate what `gradients` takes for such examples, without computing any."""

    def gradients(
        self,
        examples: Sequence[Example],
        state: BlendState,
        *,
        train: str | None = None,
        dropout: Dropout = NO_DROPOUT,
        cancelled: Cancelled = never,
    ) -> Gradients:
        """Return the loss of all examples under a blend, with its gradients.

        Parameters
        ----------
        examples
            At least one, each with some weight.
        state
            The blend.
        train
            The key of the adapter whose factors' gradients are asked for; None: those of scales are all.
        dropout
            For the adapter that is trained.
        cancelled
            Asked at every layer, on the way back as well.

        Raises
        ------
        CancelledError
            Once cancelled.
        MismatchError
            The blend hears an adapter that shows no factors: gradients do not pass through it.
        EngineError
            As `evaluate` does, and where a sequence has no weight or the memory does not suffice.
        """


@runtime_checkable
class SharingEngine(Engine, Protocol):
    """An engine that shares its open base with others, so that long work has one of its own."""

    def sibling(self) -> LearningEngine:
        """Return an engine for another thread; it keeps the weights until it is closed."""
