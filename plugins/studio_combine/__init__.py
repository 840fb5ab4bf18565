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
    """

    name: str
    function: Callable[..., CombinedDelta]
    Options: type[Any] = NoOptions

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
