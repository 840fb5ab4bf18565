"""The options of the methods: each field is a keyword of the method's function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Majority = Literal["total", "frequency"]
Divisor = Literal["count", "weights", "nothing"]


def _density(default: float, help_: str) -> Any:
    return field(default=default, metadata={"help": help_, "range": (0.001, 1.0)})


def _lambda() -> Any:
    return field(default=1.0, metadata={"help": "Multiplies the result.", "range": (-10.0, 10.0)})


def _seed() -> Any:
    return field(
        default=0,
        metadata={"help": "The same seed drops the same weights.", "range": (0, 2**31 - 1)},
    )


def _majority() -> Any:
    return field(
        default="total",
        metadata={
            "help": "What elects a weight's sign: the sum of the deltas, or how many deltas have it.",
            "choices": ("total", "frequency"),
        },
    )


def _divisor() -> Any:
    return field(
        default="count",
        metadata={
            "help": "What the deltas that agree are divided by: their number, their scales' sum, or nothing.",
            "choices": ("count", "weights", "nothing"),
        },
    )


_KEPT_LARGEST = "The share of each delta's weights that stays, the largest."
_KEPT_BY_CHANCE = "The share of each delta's weights that stays, by chance; they are scaled up for the rest."


@dataclass(frozen=True)
class NoOptions:
    """There is nothing to choose."""


@dataclass(frozen=True)
class LinearOptions:
    """A sum, or a weighted mean."""

    normalise: bool = field(
        default=False, metadata={"help": "Divide by the sum of the scales: a weighted mean."}
    )


@dataclass(frozen=True)
class TaskArithmeticOptions:
    """A sum with a weight of its own."""

    lambda_: float = _lambda()


@dataclass(frozen=True)
class SvdOptions:
    """The best approximation of the sum."""

    rank: int = field(
        default=16,
        metadata={"help": "The rank of the result; 0 leaves it to the energy.", "range": (0, 4096)},
    )
    energy: float = field(
        default=1.0,
        metadata={"help": "Keep this share of the squared norm, if the rank allows.", "range": (0.0, 1.0)},
    )


@dataclass(frozen=True)
class MagnitudePruneOptions:
    """The largest weights of each delta."""

    density: float = _density(0.5, _KEPT_LARGEST)


@dataclass(frozen=True)
class TiesOptions:
    """Trim, elect, merge."""

    density: float = _density(0.2, _KEPT_LARGEST)
    majority: Majority = _majority()
    divide_by: Divisor = _divisor()
    lambda_: float = _lambda()


@dataclass(frozen=True)
class DareLinearOptions:
    """Drop and rescale, add."""

    density: float = _density(0.5, _KEPT_BY_CHANCE)
    seed: int = _seed()


@dataclass(frozen=True)
class DareTiesOptions:
    """Drop and rescale, elect, merge."""

    density: float = _density(0.5, _KEPT_BY_CHANCE)
    majority: Majority = _majority()
    divide_by: Divisor = _divisor()
    lambda_: float = _lambda()
    seed: int = _seed()


@dataclass(frozen=True)
class DellaOptions:
    """Drop small weights rather than large ones, elect, fuse."""

    density: float = _density(0.5, _KEPT_BY_CHANCE)
    epsilon: float = field(
        default=0.15,
        metadata={
            "help": "A row's smallest weight stays with density - epsilon, its largest with + epsilon.",
            "range": (0.0, 0.5),
        },
    )
    majority: Majority = _majority()
    divide_by: Divisor = _divisor()
    lambda_: float = _lambda()
    seed: int = _seed()


@dataclass(frozen=True)
class BreadcrumbsOptions:
    """Neither the largest nor the smallest weights."""

    density: float = _density(0.85, "The share of each delta's weights that stays.")
    gamma: float = field(
        default=0.01,
        metadata={"help": "The share that is dropped as outliers, the largest.", "range": (0.0, 1.0)},
    )
    majority: Literal["none", "total", "frequency"] = field(
        default="none",
        metadata={
            "help": "Elect signs as TIES does, and leave out the deltas that disagree.",
            "choices": ("none", "total", "frequency"),
        },
    )
    lambda_: float = _lambda()


@dataclass(frozen=True)
class SceOptions:
    """Select, calculate, erase."""

    density: float = _density(0.1, "The share of the weights that is merged: where the deltas differ most.")


@dataclass(frozen=True)
class SlerpOptions:
    """How far to go."""

    t: float = field(
        default=0.5,
        metadata={"help": "0 is the first adapter on the stack, 1 the second.", "range": (0.0, 1.0)},
    )


@dataclass(frozen=True)
class NuslerpOptions:
    """What has an angle."""

    direction: Literal["matrix", "rows", "columns"] = field(
        default="matrix",
        metadata={
            "help": "Go along one arc for the whole module, or along one for each row or column.",
            "choices": ("matrix", "rows", "columns"),
        },
    )


@dataclass(frozen=True)
class PerFactorOptions:
    """What PEFT does to the As and to the Bs."""

    rule: Literal["linear", "magnitude_prune", "ties", "dare_linear", "dare_ties"] = field(
        default="linear",
        metadata={
            "help": "PEFT's combination_type.",
            "choices": ("linear", "magnitude_prune", "ties", "dare_linear", "dare_ties"),
        },
    )
    density: float = _density(0.5, "The share of each factor's weights that stays; linear keeps all.")
    majority: Majority = _majority()
    seed: int = _seed()
