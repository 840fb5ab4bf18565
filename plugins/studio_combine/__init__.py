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
    summary
        What it does, in one plain sentence.
    """

    name: str
    function: Callable[..., CombinedDelta]
    Options: type[Any] = NoOptions
    summary: str = ""

    def combine(self, module: str, parts: Sequence[DeltaPart], options: Any) -> CombinedDelta:
        """Combine the deltas of one module."""
        return self.function(module, parts, **vars(options))


@hookimpl
def register_combine_methods() -> list[CombineMethod]:
    """Offer all methods."""
    return [
        Method("cat", algebra.cat, NoOptions, "The exact sum of what is heard, its ranks added."),
        Method("linear", algebra.linear, LinearOptions, "The sum of what is heard, or its weighted mean."),
        Method("svd", algebra.svd, SvdOptions, "The best approximation of the sum by a rank."),
        Method(
            "task_arithmetic", algebra.task_arithmetic, TaskArithmeticOptions, "The sum, times one number."
        ),
        Method("average", algebra.average, NoOptions, "The mean of the adapters that have a module."),
        Method(
            "magnitude_prune",
            algebra.magnitude_prune,
            MagnitudePruneOptions,
            "The sum of each adapter's largest weights.",
        ),
        Method(
            "ties",
            algebra.ties,
            TiesOptions,
            "Trims each adapter, elects a sign for each weight, merges those that agree.",
        ),
        Method(
            "dare_linear",
            algebra.dare_linear,
            DareLinearOptions,
            "Drops weights by chance, scales up the rest, adds.",
        ),
        Method(
            "dare_ties",
            algebra.dare_ties,
            DareTiesOptions,
            "Drops weights by chance, then elects signs as ties does.",
        ),
        Method(
            "della",
            algebra.della,
            DellaOptions,
            "As dare_ties, but small weights are likelier to be dropped.",
        ),
        Method(
            "breadcrumbs",
            algebra.breadcrumbs,
            BreadcrumbsOptions,
            "Leaves out the largest weights as well as the smallest.",
        ),
        Method(
            "sce", algebra.sce, SceOptions, "Merges where the adapters differ most, each by its energy there."
        ),
        Method("slerp", algebra.slerp, SlerpOptions, "A point on the arc between two adapters."),
        Method("nuslerp", algebra.nuslerp, NuslerpOptions, "An arc between two adapters, by their scales."),
        Method(
            "peft_factors",
            algebra.per_factor,
            PerFactorOptions,
            "As PEFT combines: A with A and B with B, which is no sum of deltas.",
        ),
    ]
