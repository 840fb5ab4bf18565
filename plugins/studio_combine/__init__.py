"""The methods of combining adapters: sums, pruned sums, elections, arcs, and PEFT's way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studio.api import CombineMethod, algebra, hookimpl
from studio_combine.options import (
    BreadcrumbsOptions,
    DareLinearOptions,
    DareTiesOptions,
    DellaOptions,
    LinearOptions,
    MagnitudePruneOptions,
    NoOptions,
    NuslerpOptions,
    PerFactorOptions,
    SceOptions,
    SlerpOptions,
    SvdOptions,
    TaskArithmeticOptions,
    TiesOptions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from studio.api import CombinedDelta, DeltaPart


SUMMARIES = {
    "cat": "The exact sum of what is heard, its ranks added.",
    "linear": "The sum of what is heard, or its weighted mean.",
    "svd": "The best approximation of the sum by a rank.",
    "task_arithmetic": "The sum, times one number.",
    "average": "The mean of the adapters that have a module.",
    "magnitude_prune": "The sum of each adapter's largest weights.",
    "ties": "Trims each adapter, elects a sign for each weight, merges those that agree.",
    "dare_linear": "Drops weights by chance, scales up the rest, adds.",
    "dare_ties": "Drops weights by chance, then elects signs as ties does.",
    "della": "As dare_ties, but small weights are likelier to be dropped.",
    "breadcrumbs": "Leaves out the largest weights as well as the smallest.",
    "sce": "Merges where the adapters differ most, each by its energy there.",
    "slerp": "A point on the arc between two adapters.",
    "nuslerp": "An arc between two adapters, by their scales.",
    "peft_factors": "As PEFT combines: A with A and B with B, which is no sum of deltas.",
}
"""What each method does, for whoever chooses one."""


@dataclass(frozen=True)
class Method:
    """A pure function with its options: their fields are its keywords.

    Attributes
    ----------
    name
        As the field calls it.
    function
        Makes one delta of the parts of a module.
    Options
        The frozen dataclass of its options.
    """

    name: str
    function: Callable[..., CombinedDelta]
    Options: type[Any] = NoOptions

    @property
    def summary(self) -> str:
        """What it does, in one plain sentence."""
        return SUMMARIES[self.name]

    def combine(self, module: str, parts: Sequence[DeltaPart], options: Any) -> CombinedDelta:
        """Combine the deltas of one module."""
        return self.function(module, parts, **vars(options))


@hookimpl
def register_combine_methods() -> list[CombineMethod]:
    """Offer all methods."""
    return [
        Method("cat", algebra.cat),
        Method("linear", algebra.linear, LinearOptions),
        Method("svd", algebra.svd, SvdOptions),
        Method("task_arithmetic", algebra.task_arithmetic, TaskArithmeticOptions),
        Method("average", algebra.average),
        Method("magnitude_prune", algebra.magnitude_prune, MagnitudePruneOptions),
        Method("ties", algebra.ties, TiesOptions),
        Method("dare_linear", algebra.dare_linear, DareLinearOptions),
        Method("dare_ties", algebra.dare_ties, DareTiesOptions),
        Method("della", algebra.della, DellaOptions),
        Method("breadcrumbs", algebra.breadcrumbs, BreadcrumbsOptions),
        Method("sce", algebra.sce, SceOptions),
        Method("slerp", algebra.slerp, SlerpOptions),
        Method("nuslerp", algebra.nuslerp, NuslerpOptions),
        Method("peft_factors", algebra.per_factor, PerFactorOptions),
    ]
