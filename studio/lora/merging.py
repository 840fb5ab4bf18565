"""The weights of a merge, a run of rows at a time: base and delta added, stored, and compared."""

from __future__ import annotations

import math
import threading
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import DeltaPart, RawModel, never
from studio.errors import SaveError, UnsupportedError
from studio.formats.quantise import FLOAT_TYPES, quantise, unstorable
from studio.lora.combining import combined_delta
from studio.lora.kept_delta import Sums
from studio.lora.small_products import product
from studio.lora.storing import Storage, store, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from studio.contracts import Cancelled, CombinedDelta, ExportRequest, FloatArray
    from studio.formats.quantise import Bytes
    from studio.lora.calibration import PendingCalibration

PIECE_VALUES = 1 << 20
"""How many weights are merged at once: 4 MB as float32, so that memory stays bounded and caches help."""


@dataclass(frozen=True)
class TensorPlan:
    """What becomes of one tensor.

    Attributes
    ----------
    name
        Its name in the merged file.
    source
        The base's tensor it is made of: its own, or the embedding where the base ties its output to it.
    shape
        In NumPy order.
    base_type
        How the base stores it.
    storage
        How the merge stores it.
    changed
        Whether the blend acts on it.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    base_type: str
    storage: Storage
    changed: bool

    @property
    def copied(self) -> bool:
        """Whether its bytes stay as they are."""
        return not self.changed and self.storage.type_name == self.base_type

    @property
    def quantised_anew(self) -> bool:
        """Whether a grid is fitted to its rows, which an importance matrix weights."""
        storage = self.storage
        return not self.copied and storage.grid == "new" and storage.type_name not in FLOAT_TYPES

    def sample(self, runs: int, rows: int) -> list[slice]:
        """Choose about so many runs of so many rows all over the tensor, each within one expert."""
        pieces = list(self.pieces())
        if len(pieces) >= runs:
            chosen = [pieces[number * len(pieces) // runs] for number in range(runs)]
            return [slice(piece.start, min(piece.start + rows, piece.stop)) for piece in chosen]
        found = []
        for piece in pieces:
            count = min(-(-runs // len(pieces)), piece.stop - piece.start)
            edges = [
                piece.start + number * (piece.stop - piece.start) // count for number in range(count + 1)
            ]
            found += [slice(first, min(first + rows, last)) for first, last in pairwise(edges)]
        return found

    def pieces(self) -> Iterator[slice]:
        """Cut its rows, all outer dimensions taken as one, into runs that lie within one expert each."""
        experts = math.prod(self.shape[:-2])
        rows = self.shape[-2] if len(self.shape) > 1 else 1
        at_once = max(1, PIECE_VALUES // self.shape[-1])
        for expert in range(experts):
            for first in range(0, rows, at_once):
                yield slice(expert * rows + first, expert * rows + min(first + at_once, rows))


class PendingDelta:
    """A module's delta, made when the first run of its rows asks for it, on whichever thread that is."""

    def __init__(self, request: ExportRequest, module: str) -> None:
        self._request = request
        self._module = module
        self._lock = threading.Lock()
        self._delta: CombinedDelta | None = None

    def rows(self, rows: slice) -> FloatArray:
        """Return a run of rows within one expert as float32 ``[rows, in]``."""
        with self._lock:
            if self._delta is None:
                self._delta = combined_delta(self._request, self._module)
                assert self._delta is not None  # the plan says that the blend acts on it
        delta = self._delta
        if not isinstance(delta, DeltaPart):
            return np.asarray(delta.reshape(-1, delta.shape[-1])[rows], np.float32)
        a, b = delta.a, delta.b
        if a.ndim == 3:
            expert, first = divmod(rows.start, b.shape[1])
            a, b, rows = a[expert], b[expert], slice(first, first + rows.stop - rows.start)
        return product(b[rows] * np.float32(delta.scale), a)  # [rows, R] @ [R, in]


@dataclass(frozen=True)
class MergedRows:
    """A run of rows as the merged file stores it.

    Attributes
    ----------
    plan
        Of the tensor.
    first
        The first of the rows.
    data
        uint8 ``[rows, bytes a row]``.
    sums
        How the stored delta compares with the wanted one; nothing for types that keep it anyway.
    as_heard
        Whether that is of the outputs, and of the whole module's sample rather than of these rows.
    """

    plan: TensorPlan
    first: int
    data: Bytes
    sums: Sums = Sums()
    as_heard: bool = False


def raw_model(request: ExportRequest) -> RawModel:
    """Return the base as a source of stored bytes. Raises `UnsupportedError` where it is none."""
    if isinstance(request.base, RawModel):
        return request.base
    raise UnsupportedError(
        f"{request.base.name} does not show how its tensors are stored",
        path=request.base.path,
        remedy="Open the model as a GGUF file",
    )


def merge_rows(
    base: RawModel,
    plan: TensorPlan,
    delta: PendingDelta | None,
    rows: slice,
    *,
    seed: int = 0,
    importance: FloatArray | None = None,
    calibration: PendingCalibration | None = None,
    cancelled: Cancelled = never,
) -> MergedRows:
    """Merge a run of rows of one tensor. Random rounding depends on the seed, the name and the rows alone.

    Raises
    ------
    SaveError
        A merged weight is not finite, or too large for its type.
    """
    stored = base.raw_rows(plan.source, rows)
    if plan.copied:
        return MergedRows(plan, rows.start, stored)
    old = values_of(stored, plan.base_type)
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused by name
        added = None if delta is None else delta.rows(rows)
        merged = old if added is None else old + added
    if (problem := unstorable(merged, plan.storage.type_name)) is not None:
        raise SaveError(
            f"of its merged weights {problem}",
            where=plan.name,
            remedy="Merge to F32 or BF16" if "too large" in problem else "Lower the scales",
        )
    if plan.storage == Storage(plan.storage.type_name):
        data = quantise(merged, plan.storage.type_name, importance)
    else:
        random = np.random.default_rng([seed, zlib.crc32(plan.name.encode()), rows.start])
        data = store(
            old,
            added,
            stored,
            plan.base_type,
            plan.storage,
            random=random,
            importance=importance,
            calibration=None if calibration is None else calibration.get(cancelled),
            cancelled=cancelled,
        )
    if added is None or plan.storage.type_name in FLOAT_TYPES:
        return MergedRows(plan, rows.start, data)
    if calibration is not None and calibration.made is not None:
        return MergedRows(plan, rows.start, data, calibration.made.sums, as_heard=True)
    realised = values_of(data, plan.storage.type_name) - old
    return MergedRows(plan, rows.start, data, Sums.of(realised, added))
