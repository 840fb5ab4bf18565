"""A learner in float64, and differences that its gradients are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from studio.contracts import BlendState, DeltaAdapter, Example, Gradients, never
from studio.engine.adapter_bank import AdapterBank
from studio.engine.backend import choose_backend
from studio.engine.gradients.learner import Learner
from studio.engine.linear import Linear
from studio.engine.models import model_for
from studio.engine.weights import Weights

Array = np.ndarray[Any, np.dtype[Any]]

OFFSETS = ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12))
"""Steps and factors of a central difference that is off by the fourth power of the step."""


def difference(function: Callable[[float], float], step: float) -> float:
    """Differentiate at 0."""
    return sum(factor * function(offset * step) for offset, factor in OFFSETS) / step


@dataclass
class Precise:
    """A base and adapters in float64: all that is computed of them is, too."""

    learner: Learner
    bank: AdapterBank

    def gradients(
        self, examples: Sequence[Example], state: BlendState, train: str | None = None
    ) -> Gradients:
        return self.learner.gradients(examples, state, train, cancelled=never)

    def loss(self, examples: Sequence[Example], state: BlendState) -> float:
        return self.gradients(examples, state).loss.total

    def factors(self, key: str) -> dict[str, tuple[Array, Array]]:
        """The packed A and B of one adapter by module: views, to be moved."""
        found = {}
        number = list(self.bank.adapters).index(key)
        for group, packed in self.bank.packed.items():
            for member in packed.members:
                mine = np.flatnonzero(self.bank.channel[packed.ranks][member.ranks] == number)
                if len(mine):
                    rows = slice(int(mine[0]), int(mine[-1]) + 1)
                    start = member.ranks.start
                    a = packed.a[..., start + rows.start : start + rows.stop, :]
                    found[group[member.index]] = (a, member.b[..., rows])
        return found


def precise(base: Any, adapters: Mapping[str, DeltaAdapter]) -> Precise:
    """Open a base, and widen what was loaded: the values are those that float32 gave."""
    backend, model = choose_backend("numpy"), model_for(base)
    weights = Weights.load(base, model, backend)
    bank = AdapterBank(adapters, weights, backend)

    def wide(linear: Any) -> Linear:
        bias = None if linear.bias is None else linear.bias.astype(np.float64)
        return Linear(linear.weight.astype(np.float64), bias, linear.outputs)

    wider = replace(
        weights,
        embedding=np.asarray(weights.embedding, np.float64),
        linears={group: wide(linear) for group, linear in weights.linears.items()},
        experts={group: tuple(map(wide, parts)) for group, parts in weights.experts.items()},
        vectors={name: vector.astype(np.float64) for name, vector in weights.vectors.items()},
    )
    bank.scaling = bank.scaling.astype(np.float64)
    for group, packed in bank.packed.items():
        members = tuple(replace(member, b=member.b.astype(np.float64)) for member in packed.members)
        bank.packed[group] = replace(packed, a=packed.a.astype(np.float64), members=members)
    return Precise(Learner(backend, model, wider, bank, np), bank)


@pytest.fixture
def in_float64() -> Callable[..., Precise]:
    return precise


@pytest.fixture
def central_difference() -> Callable[..., float]:
    return difference


def make_examples(vocabulary: int, lengths: Sequence[int], seed: int = 0) -> list[Example]:
    """Make random texts of which some tokens are only read."""
    random = np.random.default_rng(seed)
    examples = []
    for length in lengths:
        weights = random.choice([0.0, 0.5, 1.0], length)
        weights[-1] = 1
        tokens = random.integers(0, vocabulary, length)
        examples.append(Example(tuple(tokens.tolist()), tuple(weights.tolist())))
    return examples


@pytest.fixture
def random_examples() -> Callable[..., list[Example]]:
    return make_examples
