"""`DoraAdapter`: low-rank factors with a magnitude for every row, which no plain LoRA can stand for."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from studio.contracts import DeltaPart
from studio.engine.low_rank import low_rank_delta
from studio.engine.model import EMBEDDING, HEAD
from studio.errors import FormatError, MismatchError, UnsupportedError
from studio.lora.adapter import Adapter
from studio.lora.combining import dense_delta

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from studio.contracts import BaseModel, Finding, FloatArray
    from studio.lora.adapter import LoraFactors

_CHUNK = 1 << 20
"""How many weights are float64 at once, in elements: 8 MB."""

Rows: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
"""One number for each row of a weight, float64 ``[out]``."""


class DoraAdapter:
    """W'(s) = m (W + s c B A) / ||W + s c B A||, with the norm row by row and c the adapter's own scaling.

    Liu et al. 2024, https://arxiv.org/abs/2402.09353, section 4. It satisfies `ScaledDelta`: the delta
    W'(s) - W is of full rank and not proportional to s. As s goes to 0 it does not vanish either, since the
    magnitudes m act whole; at 0 the adapter is not heard.

    Parameters
    ----------
    low_rank
        A and B, and where they came from.
    magnitudes
        m by module, ``(out,)``; a module without one is plain LoRA.

    Raises
    ------
    FormatError
        A magnitude fits no module, has another length than its rows, or is not finite.
    UnsupportedError
        A magnitude is for the embedding or for experts.
    """

    def __init__(self, low_rank: Adapter, magnitudes: Mapping[str, FloatArray]) -> None:
        _check_magnitudes(low_rank, magnitudes)
        self.low_rank = low_rank
        self.magnitudes: Mapping[str, FloatArray] = MappingProxyType(
            {module: np.asarray(values, np.float32) for module, values in magnitudes.items()}
        )
        self._base: BaseModel | None = None
        self._rows: dict[str, _RowSums] = {}

    def __repr__(self) -> str:
        """Show name, size and ranks."""
        return f"DoraAdapter({self.low_rank!r}, {len(self.magnitudes)} magnitudes)"

    def for_base(self, low_rank: Adapter, base: BaseModel) -> DoraAdapter:
        """Return it for a base, with those of its factors that fit; each of its weights is read once."""
        magnitudes = {name: values for name, values in self.magnitudes.items() if name in low_rank.factors}
        bound = DoraAdapter(low_rank, magnitudes)
        bound._base = base
        bound._rows = {
            name: _RowSums.of(bound._weight(name), low_rank.factors[name]) for name in bound.magnitudes
        }
        return bound

    # What it is

    @property
    def name(self) -> str:
        """A name to show."""
        return self.low_rank.name

    @property
    def version(self) -> int:
        """A number that changes whenever the delta does."""
        return self.low_rank.version

    @property
    def modules(self) -> tuple[str, ...]:
        """The GGUF names of the weights it acts on."""
        return self.low_rank.modules

    @property
    def source(self) -> Path | None:
        """The file or folder it was read from."""
        return self.low_rank.source

    @source.setter
    def source(self, source: Path) -> None:
        self.low_rank.source = source

    @property
    def format(self) -> str:
        """What that was."""
        return f"{self.low_rank.format} (DoRA)"

    @property
    def unmapped(self) -> Sequence[str]:
        """Modules of the source that have no factors here."""
        return self.low_rank.unmapped

    @property
    def notes(self) -> Sequence[str]:
        """What to know about how it was read."""
        return self.low_rank.notes

    @property
    def findings(self) -> Sequence[Finding]:
        """What its format alone can tell of how other programs read the file."""
        return self.low_rank.findings

    # What it does

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        """Return the delta at scale 1 of inputs ``[..., in]`` as ``[..., out]``; None without the module."""
        return self.delta_at(module, inputs, 1.0)

    def delta_at(
        self, module: str, inputs: FloatArray, scale: float, product: FloatArray | None = None
    ) -> FloatArray | None:
        """Return (W'(s) - W) x = (g - 1) W x + g s c B A x, with g = m / ||W + s c B A||.

        `product` is W x, where it is known; else the base's weight is dequantised for it.
        """
        factors = self.low_rank.factors.get(module)
        if factors is None:
            return None
        change: FloatArray = low_rank_delta(inputs, factors.a, factors.b, np.float32(scale * factors.scaling))
        if module not in self.magnitudes:
            return change
        gain = self._gain(module, scale)
        if product is None:
            product = inputs @ self._weight(module).T  # [..., in] @ [in, out] -> [..., out]
        total: FloatArray = (gain - 1).astype(np.float32) * product + gain.astype(np.float32) * change
        return total

    def dense_delta_at(self, module: str, scale: float) -> FloatArray | None:
        """Return W'(s) - W, ``(out, in)`` float32; None without the module."""
        factors = self.low_rank.factors.get(module)
        if factors is None:
            return None
        change = dense_delta(DeltaPart(factors.a, factors.b, scale * factors.scaling))
        if module not in self.magnitudes:
            return change
        gain = self._gain(module, scale)
        whole: FloatArray = gain.astype(np.float32)[:, None] * change
        whole += (gain - 1).astype(np.float32)[:, None] * self._weight(module)
        return whole

    def norm_at(self, module: str, scale: float) -> float:
        """Return ||W'(s) - W||_F exactly, without forming it."""
        factors = self.low_rank.factors[module]
        own = scale * factors.scaling
        if module not in self.magnitudes:
            a, b = factors.a.astype(np.float64), factors.b.astype(np.float64)
            return float(abs(own) * np.sqrt(np.sum((a @ a.swapaxes(-1, -2)) * (b.swapaxes(-1, -2) @ b))))
        rows, gain = self._rows_of(module), self._gain(module, scale)
        squares = (
            (gain - 1) ** 2 * rows.weight
            + 2 * (gain - 1) * gain * own * rows.mixed
            + (gain * own) ** 2 * rows.change
        )
        return float(np.sqrt(max(float(np.sum(squares)), 0.0)))

    # Inside

    def _gain(self, module: str, scale: float) -> Rows:
        """Return g = m / ||W + s c B A||, 1 for a row that is 0."""
        rows = self._rows_of(module)
        own = scale * self.low_rank.factors[module].scaling
        squares = rows.weight + 2 * own * rows.mixed + own**2 * rows.change
        norms = np.sqrt(np.maximum(squares, 0))
        magnitude = self.magnitudes[module].astype(np.float64)
        return np.divide(magnitude, norms, out=np.ones_like(norms), where=norms > 0)

    def _rows_of(self, module: str) -> _RowSums:
        self._bound_base()
        return self._rows[module]

    def _weight(self, module: str) -> FloatArray:
        """Return W as float32 ``(out, in)``; an output without a weight of its own is the embedding."""
        base = self._bound_base()
        return base.dense(EMBEDDING if module == HEAD and HEAD not in base.tensors else module)

    def _bound_base(self) -> BaseModel:
        if self._base is None:
            raise MismatchError(
                "DoRA acts on the weights of its base, and none is open",
                path=self.source,
                remedy="Load it for a base",
            )
        return self._base


AnyAdapter: TypeAlias = Adapter | DoraAdapter
"""What loaders read."""


@dataclass(frozen=True)
class _RowSums:
    """What the norm of each row of W + t B A needs, so that a moved slider never reads W.

    ||w + t d||^2 = weight + 2 t mixed + t^2 change, with w and d = (B A)'s rows.
    """

    weight: Rows
    mixed: Rows
    change: Rows

    @classmethod
    def of(cls, weight: FloatArray, factors: LoraFactors) -> _RowSums:
        a, b = factors.a.astype(np.float64), factors.b.astype(np.float64)
        squares, mixed = np.empty(len(weight)), np.empty(len(weight))
        at_once = max(1, _CHUNK // weight.shape[1])
        for start in range(0, len(weight), at_once):
            rows = slice(start, start + at_once)
            part = weight[rows].astype(np.float64)
            squares[rows] = np.einsum("oi,oi->o", part, part)
            mixed[rows] = np.einsum("or,or->o", b[rows], part @ a.T)  # <w, b A> = b . (w A^T)
        return cls(squares, mixed, np.einsum("or,or->o", b @ (a @ a.T), b))


def _check_magnitudes(low_rank: Adapter, magnitudes: Mapping[str, FloatArray]) -> None:
    for module, values in magnitudes.items():
        factors = low_rank.factors.get(module)
        if factors is None:
            raise FormatError(
                "it has a magnitude and no factors",
                path=low_rank.source,
                where=module,
                remedy="Save it again",
            )
        if module == EMBEDDING or len(factors.shape) != 2:
            raise UnsupportedError(
                "DoRA on an embedding or on experts is not supported; as a plain LoRA it would be wrong",
                path=low_rank.source,
                where=module,
                remedy="Merge it into its base with the program that trained it and open the merged model",
            )
        if np.shape(values) != factors.shape[:1]:
            raise FormatError(
                f"the magnitude {np.shape(values)} does not fit the {factors.shape[0]} rows of the weight",
                path=low_rank.source,
                where=module,
                remedy="Save the adapter again",
            )
        if not np.isfinite(values).all():
            raise FormatError(
                "NaN or infinity in the magnitude",
                path=low_rank.source,
                where=module,
                remedy="The training diverged; use an earlier checkpoint",
            )
