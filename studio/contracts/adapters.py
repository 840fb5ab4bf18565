"""What the rooms share of adapters: deltas and their low-rank factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studio.contracts.models import FloatArray


@runtime_checkable
class DeltaAdapter(Protocol):
    """Anything that can be pushed on a stack: it adds a delta to the output of the modules it names.

    `studio.lora.adapter.Adapter` is the low-rank one. An object of a stranger that satisfies this protocol
    acts in the forward pass as well.
    """

    @property
    def name(self) -> str:
        """A name to show."""

    @property
    def version(self) -> int:
        """A number that changes whenever the delta does, so that no cache goes stale."""

    @property
    def modules(self) -> Sequence[str]:
        """The GGUF names of the weights it acts on, such as ``blk.0.attn_q.weight``."""

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        """Return the delta at scale 1 of inputs ``[..., in]`` as ``[..., out]``; None without the module.

        A weight of E experts takes ``[E, T, in]``, a block of inputs for each.
        """


@runtime_checkable
class LowRankFactors(Protocol):
    """The factors of one module: dW = scaling * B @ A."""

    @property
    def a(self) -> FloatArray:
        """The down-projection A, ``(rank, in)``; ``(E, rank, in)`` for a weight of E experts."""

    @property
    def b(self) -> FloatArray:
        """The up-projection B, ``(out, rank)`` or ``(E, out, rank)``."""

    @property
    def scaling(self) -> float:
        """What the adapter itself scales by: alpha / rank, or alpha / sqrt(rank) for rsLoRA."""


@runtime_checkable
class LowRankAdapter(DeltaAdapter, Protocol):
    """A `DeltaAdapter` that shows its factors, so that a stack can apply many of them in one product."""

    @property
    def factors(self) -> Mapping[str, LowRankFactors]:
        """The factors by module name."""


@runtime_checkable
class ScaledDelta(DeltaAdapter, Protocol):
    """A `DeltaAdapter` whose delta is not proportional to its scale, as that of DoRA is not."""

    def delta_at(
        self, module: str, inputs: FloatArray, scale: float, product: FloatArray | None = None
    ) -> FloatArray | None:
        """Return the delta at a scale, which multiplies it no more; None without the module.

        Parameters
        ----------
        module
            The GGUF weight name.
        inputs
            ``[..., in]``.
        scale
            Not 0: an adapter at scale 0 is not asked.
        product
            The base's own W x ``[..., out]`` without its bias, where the caller has it already.
        """

    def dense_delta_at(self, module: str, scale: float) -> FloatArray | None:
        """Return what a merge at this scale adds to the weight, ``(out, in)``; None without the module."""


@dataclass(frozen=True, eq=False)
class DeltaPart:
    """A share of one module's delta, in factors: dW = scale * B @ A.

    Attributes
    ----------
    a
        The down-projection A, ``(rank, in)``; ``(E, rank, in)`` for a weight of E experts.
    b
        The up-projection B, ``(out, rank)`` or ``(E, out, rank)``.
    scale
        All that multiplies B A: the user's scale, the gain and the adapter's own scaling.
    weight
        The user's share of `scale`, its slider times its gain: scale / weight * B A is the delta as trained.
    """

    a: FloatArray
    b: FloatArray
    scale: float
    weight: float = 1.0


CombinedDelta: TypeAlias = "DeltaPart | FloatArray"
"""A module's delta as a method of combining leaves it: in factors, or dense ``(out, in)``."""


Severity: TypeAlias = Literal["info", "warning", "error"]
"""How grave a finding is: worth knowing, wrong in some program, or refused here as well."""


@dataclass(frozen=True)
class Finding:
    """What the linter has to say of an adapter's file.

    Attributes
    ----------
    topic
        What it is about, in one short word that never changes, such as ``rslora``.
    severity
        ``info``, ``warning`` or ``error``.
    message
        What the file has, in one sentence without a full stop.
    programs
        The programs that read the file in another way than it is meant, each with what it does.
    remedy
        What to do about it, in one sentence without a full stop; empty where there is nothing to do.
    where
        The modules, tensors or keys it is about.
    """

    topic: str
    severity: Severity
    message: str
    programs: tuple[tuple[str, str], ...] = ()
    remedy: str = ""
    where: tuple[str, ...] = ()
