"""`Adapter`: the low-rank factors of one LoRA adapter, checked, under the module names of the base."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from studio.engine.low_rank import low_rank_delta, weight_shape
from studio.errors import FormatError, MismatchError, StudioError
from studio.lora.parameter import Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from studio.contracts import Finding, FloatArray

_versions = itertools.count(1)
"""Versions are drawn from one counter, so that two adapters never share one and no cache confuses them."""


@dataclass(frozen=True, eq=False)
class LoraFactors:
    """The two factors of one module: dW = scaling * B @ A, shaped like the weight W ``(out, in)``.

    A weight ``(E, out, in)`` of E experts takes a pair for each of them: A ``(E, rank, in)`` and B
    ``(E, out, rank)``.

    Hu et al. 2021, https://arxiv.org/abs/2106.09685; rank stabilisation: Kalajdzievski 2023,
    https://arxiv.org/abs/2312.03732. The arrays are kept as read-only float32.

    Attributes
    ----------
    a
        The down-projection A, ``(rank, in)`` or ``(E, rank, in)``.
    b
        The up-projection B, ``(out, rank)`` or ``(E, out, rank)``. For ``token_embd.weight``, whose rows are
        tokens, B is ``(vocab, rank)`` and A ``(rank, embd)``: a look-up adds ``scaling * B[tokens] @ A``.
    alpha
        The adapter's alpha; 0 silences it.
    rank_stabilised
        Whether the scaling is alpha / sqrt(rank) (rsLoRA) in place of alpha / rank.
    """

    a: FloatArray
    b: FloatArray
    alpha: float
    rank_stabilised: bool = False

    def __post_init__(self) -> None:
        """Take the arrays as read-only float32."""
        object.__setattr__(self, "a", _read_only(self.a))
        object.__setattr__(self, "b", _read_only(self.b))
        object.__setattr__(self, "alpha", float(self.alpha))

    @property
    def rank(self) -> int:
        """The inner dimension."""
        return int(self.a.shape[-2])

    @property
    def scaling(self) -> float:
        """What the adapter itself scales by: alpha / rank, or alpha / sqrt(rank) for rsLoRA."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape ``(out, in)`` or ``(E, out, in)`` of the weight these factors fit."""
        return weight_shape(self)

    def apply(self, inputs: FloatArray, outputs: FloatArray, scale: float = 1.0) -> FloatArray:
        """Add scale * scaling * B A x to outputs, in place, and return them.

        Parameters
        ----------
        inputs
            x, ``[in]`` or a batch ``[..., in]``; experts take ``[E, T, in]``.
        outputs
            What the weight itself gave, float32 ``[out]`` or ``[..., out]``; changed.
        scale
            A user's scale; 1 is as trained.

        Raises
        ------
        MismatchError
            A shape or the type of the outputs is wrong; they are unchanged.
        """
        inputs = np.asarray(inputs, dtype=np.float32)
        *_, out, features = self.shape
        if inputs.ndim == 0 or inputs.shape[-1] != features:
            raise MismatchError(f"takes inputs of {features} features, not {inputs.shape}")
        if outputs.dtype != np.float32 or outputs.shape != (*inputs.shape[:-1], out):
            wanted = (*inputs.shape[:-1], out)
            raise MismatchError(f"adds to float32 outputs {wanted}, not {outputs.dtype} {outputs.shape}")
        outputs += low_rank_delta(inputs, self.a, self.b, np.float32(scale * self.scaling))
        return outputs


class Adapter:
    """One LoRA adapter: factors by module, and where they came from.

    Parameters
    ----------
    name
        A name to show.
    factors
        The factors by GGUF weight name, such as ``blk.0.attn_q.weight``, in the base's row order.
    source
        The file or folder it was read from.
    format
        What that file was, such as ``PEFT directory``.
    architecture
        The architecture it says it is for, where the format tells.
    unmapped
        Modules of the source that have no factors here because they could not be named or held.
    notes
        What the user should know about how it was read, one sentence each.
    findings
        What its format alone can tell of how other programs read the file; the linter adds the rest.
    trainable
        Whether it was made to be trained, and not read from a file.
    rows_as_stored
        True where Q and K rows may stand in another order than a GGUF base has them; such an adapter can be
        looked at, but not bound to a base.

    Raises
    ------
    FormatError
        A pair does not fit together, an alpha is negative or not finite, or weights are not finite.
    """

    def __init__(
        self,
        name: str,
        factors: Mapping[str, LoraFactors],
        *,
        source: Path | None = None,
        format: str = "",
        architecture: str | None = None,
        unmapped: Sequence[str] = (),
        notes: Sequence[str] = (),
        findings: Sequence[Finding] = (),
        rows_as_stored: bool = False,
        trainable: bool = False,
    ) -> None:
        self.name = name
        self.source = source
        self.format = format
        self.architecture = architecture
        self.unmapped = tuple(unmapped)
        self.notes = tuple(notes)
        self.findings = tuple(findings)
        self.rows_as_stored = rows_as_stored
        self.trainable = trainable
        _check_factors(factors, source)
        self._factors: Mapping[str, LoraFactors] = MappingProxyType(dict(factors))
        self._weights: dict[tuple[str, str], Parameter] = {}
        self._version = next(_versions)

    def __repr__(self) -> str:
        """Show name, size and ranks."""
        ranks = "/".join(str(rank) for rank in self.ranks)
        return f"Adapter({self.name!r}, {len(self._factors)} modules, rank {ranks})"

    def with_factors(self, factors: Mapping[str, LoraFactors]) -> Adapter:
        """Return an adapter of the same origin with other factors."""
        return Adapter(
            self.name,
            factors,
            source=self.source,
            format=self.format,
            architecture=self.architecture,
            unmapped=self.unmapped,
            notes=self.notes,
            findings=self.findings,
            rows_as_stored=self.rows_as_stored,
            trainable=self.trainable,
        )

    @property
    def version(self) -> int:
        """A number that no other adapter has and that changes whenever the factors do."""
        return self._version

    @property
    def factors(self) -> Mapping[str, LoraFactors]:
        """The factors by module name. Each mapping is immutable: a change makes a new one."""
        return self._factors

    @property
    def modules(self) -> tuple[str, ...]:
        """The GGUF names of the weights it acts on."""
        return tuple(self._factors)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The different ranks of its modules, ascending."""
        return tuple(sorted({factors.rank for factors in self._factors.values()}))

    def rank(self, module: str) -> int:
        """Return the rank of one module; 0 where the adapter lacks it."""
        return self._factors[module].rank if module in self._factors else 0

    @property
    def n_weights(self) -> int:
        """How many modules it has, each one pair of A and B."""
        return len(self._factors)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The names of its modules, sorted."""
        return tuple(sorted(self._factors))

    def has_layer(self, module: str) -> bool:
        """Say whether it acts on a module."""
        return module in self._factors

    def get_weight(self, module: str, half: Literal["a", "b"]) -> Parameter:
        """Return A or B of a module as it stands, with its gradient storage; `replace` sets a new pair.

        The storage is the same at every call, until the pair is another one.

        Raises
        ------
        MismatchError
            It has no such module.
        """
        if module not in self._factors:
            raise MismatchError(f"{self.name} has no such module", where=module, remedy="See layer_names")
        pair = self._factors[module]
        value = pair.a if half == "a" else pair.b
        found = self._weights.get((module, half))
        if found is None or found.value is not value:
            found = self._weights[module, half] = Parameter(value)
        return found

    @property
    def alpha(self) -> float:
        """The alpha of all its modules; set it to give all of them another, which changes the version.

        Raises
        ------
        StudioError
            Its modules have different ones: they stand in `factors`. Or what is set is no number of at
            least 0.
        """
        alphas = {factors.alpha for factors in self._factors.values()}
        if len(alphas) != 1:
            values = ", ".join(f"{alpha:g}" for alpha in sorted(alphas)) or "none"
            raise StudioError(f"{self.name} has no single alpha: {values}", remedy="Look at its factors")
        return alphas.pop()

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        factors = {module: replace(pair, alpha=alpha) for module, pair in self._factors.items()}
        _check_alphas(factors, self.source)
        self._factors = MappingProxyType(factors)
        self._version = next(_versions)

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        """Return scaling * B A x for inputs ``[..., in]`` as ``[..., out]``, or None without the module.

        Experts take a block of inputs each: ``[E, T, in]`` becomes ``[E, T, out]``.
        """
        factors = self._factors.get(module)
        if factors is None:
            return None
        delta: FloatArray = low_rank_delta(inputs, factors.a, factors.b, np.float32(factors.scaling))
        return delta

    def replace(self, module: str, factors: LoraFactors) -> None:
        """Put new factors in the place of a module's, as training does; the version changes."""
        _check_factors({module: factors}, self.source)
        self._factors = MappingProxyType({**self._factors, module: factors})
        self._version = next(_versions)


def _read_only(array: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):  # a float64 too large becomes inf, which the adapter refuses by name
        view = np.asarray(array, dtype=np.float32).view()
    view.flags.writeable = False
    return view


def check_pairs(factors: Mapping[str, LoraFactors], source: Path | None) -> None:
    """Raise `FormatError` where a pair does not fit together or an alpha is no number from 0."""
    for module, pair in factors.items():
        if not _fit_together(pair.a, pair.b):
            raise FormatError(
                f"A {pair.a.shape} and B {pair.b.shape} are no pair: A must be (rank, in) and B (out, rank)",
                path=source,
                where=module,
                remedy="Export the adapter again; this file is damaged",
            )
    _check_alphas(factors, source)


def _check_factors(factors: Mapping[str, LoraFactors], source: Path | None) -> None:
    check_pairs(factors, source)
    broken = [
        f"{module} ({half})"
        for module, pair in factors.items()
        for half, array in (("A", pair.a), ("B", pair.b))
        if not np.isfinite(array).all()
    ]
    if broken:
        raise FormatError(
            f"NaN or infinity in {listing(broken)}",
            path=source,
            remedy="The training diverged; use an earlier checkpoint",
        )


def _check_alphas(factors: Mapping[str, LoraFactors], source: Path | None) -> None:
    for module, pair in factors.items():
        if not (math.isfinite(pair.alpha) and pair.alpha >= 0):
            raise FormatError(
                f"alpha is {pair.alpha}; it must be a number of at least 0",
                path=source,
                where=module,
                remedy="Correct alpha in the adapter's file",
            )


def _fit_together(a: FloatArray, b: FloatArray) -> bool:
    """Say whether A is ``(rank, in)`` and B ``(out, rank)``, or both the same number of such matrices."""
    if a.ndim not in (2, 3) or a.ndim != b.ndim or 0 in a.shape:
        return False
    return bool(a.shape[-2] == b.shape[-1] and a.shape[:-2] == b.shape[:-2])


def listing(names: Sequence[str], most: int = 8) -> str:
    """Join names for a message; after `most` of them say how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
