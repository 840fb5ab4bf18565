"""How an exported file answers beside the blend it was made of: the figures, a bound, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.jobs.kept import ModuleDelta

Kind: TypeAlias = Literal["adapter", "model"]

RELATIVE_BOUNDS: Mapping[Kind, Mapping[str, float]] = {
    "adapter": {"F32": 1e-4, "F16": 2e-3, "BF16": 1e-2, "Q8_0": 3e-2},
    "model": {"F32": 1e-4, "F16": 5e-3, "BF16": 3e-2},
}
"""How far the logits may be from the wanted ones, relative to their norm, by the type of the weights."""

LOST_BOUND = 0.25
"""How much of the blend's effect a file of any other type may lose: KL(blend || file) / KL(blend || base)."""

GONE = (0.9, 1.1)
"""Between which shares of the effect lost a file is taken for the bare base; beyond, it is another model."""


@dataclass(frozen=True)
class Agreement:
    """How an exported file answers beside the blend it was made of, over all positions of all texts.

    That blend is the live one, or what a method of combining makes of it.

    Attributes
    ----------
    kind
        Whether the file is an adapter, measured on the base at scale 1, or a model by itself.
    type_name
        The type most of its weights have; empty where its format does not tell.
    positions
        How many next-token distributions were compared.
    mean_kl, max_kl
        KL(blend || exported) in nats.
    effect
        Mean KL(blend || base) in nats: what the blend changes at all.
    top1
        The share of positions at which both think the same token the likeliest.
    max_error
        The largest difference of two logits.
    relative_error
        ||exported - blend|| / ||blend|| over all logits.
    modules
        How much of the wanted delta is in each module of a merged model; empty for an adapter.
    method
        What the adapters were combined by, or cut; empty for their sum, which is the live blend.
    moved
        Mean KL(blend || live) in nats: what that method changes of what is heard on the desk; 0 for the sum.
    """

    kind: Kind
    type_name: str
    positions: int
    mean_kl: float
    max_kl: float
    effect: float
    top1: float
    max_error: float
    relative_error: float
    modules: tuple[ModuleDelta, ...] = ()
    method: str = ""
    moved: float = 0.0

    @property
    def blend(self) -> str:
        """What the file is compared with, in words."""
        return "combined blend" if self.method else "live blend"

    @property
    def lost(self) -> float:
        """The share of the blend's effect that is lost: 0 is all kept, 1 is as far off as the bare base."""
        return self.mean_kl / self.effect if self.effect else 0.0

    @property
    def bound(self) -> str:
        """What it is held to, in words."""
        relative = RELATIVE_BOUNDS[self.kind].get(self.type_name)
        if relative is not None:
            return f"logits within {relative:g}, relative ({self.type_name})"
        return (
            f"at most {LOST_BOUND:.0%} of the effect lost ({self.type_name or 'of a type it does not tell'})"
        )

    @property
    def passed(self) -> bool:
        """Whether it stays within its bound."""
        relative = RELATIVE_BOUNDS[self.kind].get(self.type_name)
        return self.lost <= LOST_BOUND if relative is None else self.relative_error <= relative

    @property
    def verdict(self) -> str:
        """Say it in one sentence."""
        blend = self.blend
        if self.passed and self.relative_error < 1e-3:
            return f"The file answers as the {blend} does."
        if self.passed:
            return f"The file answers nearly as the {blend} does; {self.lost:.1%} of the effect is lost."
        if self.lost > GONE[1]:
            return f"The file is another model: it is farther from the {blend} than the bare base is."
        if self.lost > GONE[0]:
            return f"The adapter is gone: the file is as far from the {blend} as the bare base is."
        return f"The file answers differently from the {blend}: {self.lost:.0%} of the effect is lost."
