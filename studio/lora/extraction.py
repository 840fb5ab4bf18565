"""An adapter out of two models: what fine-tuning changed, cut to a rank, module by module."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from studio.contracts import Progress
from studio.errors import MismatchError
from studio.lora.adapter import Adapter, listing
from studio.lora.algebra import compress
from studio.lora.resizing import as_factors

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping
    from pathlib import Path

    from studio.contracts import BaseModel, FloatArray, TensorInfo
    from studio.lora.algebra import RankLimit


class TunedWeights(Protocol):
    """The weights of a fine-tuned model under the names and in the row order of its base's GGUF file."""

    @property
    def path(self) -> Path:
        """Where they lie."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Their shapes by name."""

    def dense(self, name: str) -> FloatArray:
        """Return one as float32."""


def extract(
    base: BaseModel, tuned: TunedWeights, limit: RankLimit, left_out: Collection[str] = ()
) -> Generator[Progress, None, Adapter]:
    """Return the adapter nearest to W_tuned - W_base in every module, within the limit on the rank.

    By a truncated SVD of the difference, randomised where the matrix is large (Halko et al. 2011,
    https://arxiv.org/abs/0909.4061); one pair of weights is in memory at a time. Modules that did not change
    get no factors; vectors, such as norms and biases, cannot get any, and a note tells which of them changed.

    Parameters
    ----------
    base, tuned
        The two models.
    limit
        On the rank of every module.
    left_out
        Weights that the adapter's format cannot act on; a note tells how much of the change they have.

    Raises
    ------
    MismatchError
        The two are of different shapes, share no weights, or are the same.
    """
    common = [name for name in base.tensors if name in tuned.tensors]
    factors, vectors = {}, []
    lost: dict[str, float] = {}
    whole = 0.0
    for done, name in enumerate(common):
        yield Progress(done, len(common), f"Extracting {name}")
        if base.tensors[name].shape != tuned.tensors[name].shape:
            raise MismatchError(
                f"the weight is {tuned.tensors[name].shape}, the base's is {base.tensors[name].shape}",
                path=tuned.path,
                where=name,
                remedy="Take the base that this model was tuned from",
            )
        change = tuned.dense(name) - base.dense(name)
        if not np.isfinite(change).all():
            raise MismatchError(
                "NaN or infinity in the difference",
                path=tuned.path,
                where=name,
                remedy="Use another checkpoint",
            )
        if not change.any():
            continue
        if change.ndim == 1:
            vectors.append(name)
            continue
        norm = float(np.linalg.norm(change))
        whole = math.hypot(whole, norm)
        if name in left_out:
            lost[name] = norm
        else:
            factors[name] = as_factors(compress(change, limit))
    if not factors:
        raise MismatchError(
            f"of {len(common)} weights that both have, none changed that an adapter could hold",
            path=tuned.path,
            remedy="Take the base that this model was tuned from",
        )
    notes = [f"Changed as well, but no adapter holds vectors: {listing(vectors, 3)}"] if vectors else []
    notes += [
        f"{name} changed as well, by {100 * norm / whole:.2g}% of the norm of all changes, and was left out"
        for name, norm in lost.items()
    ]
    return Adapter(tuned.path.stem, factors, format="extracted", architecture=base.architecture, notes=notes)
