"""A base of floats whose linear weights are held in NF4, made on the fly: what QLoRA trains on."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from studio.engine.linear import finite
from studio.engine.model import EMBEDDING, HEAD
from studio.errors import UnsupportedError
from studio.formats.dequantise import PLAIN_DTYPES
from studio.formats.nf4 import Nf4Tensor, nf4_bytes, quantise_nf4
from studio.lora.report import adaptable_modules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from studio.contracts import BaseModel, FloatArray, MetadataValue, TensorInfo, TrainingRequest

TYPE_NAME = "NF4"


def in_nf4(request: TrainingRequest) -> TrainingRequest:
    """Return a request for the same run on its base in NF4, which its engine has open from then on.

    Raises
    ------
    UnsupportedError
        The base is quantised already; its engine keeps it.
    FormatError
        A weight is not finite.
    """
    base = Nf4Base(request.base)
    request.engine.close()  # first, so that floats and NF4 are not in memory at once
    request.engine.open(base)
    return replace(request, base=base)


class Nf4Base:
    """A `BaseModel` whose blocks' linear weights are in NF4; embedding, output and norms are as they were.

    A weight is quantised when it is first asked for, and its floats are let go of. An engine that takes
    weights as they are stored (the residency `quantised`) keeps these here as they are, and turns them into
    floats panel by panel on their way into a product; with any other it has the same values in more memory.

    Parameters
    ----------
    base
        Its linear weights are floats.

    Raises
    ------
    UnsupportedError
        They are quantised already.
    """

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._weights = frozenset(adaptable_modules(base)) - {EMBEDDING, HEAD}
        types = {base.tensors[name].type_name for name in self._weights}
        if types - PLAIN_DTYPES.keys():
            raise UnsupportedError(
                f"its weights are {'/'.join(sorted(types))}, and NF4 is made of floats",
                path=base.path,
                remedy="Train without NF4: what is quantised already is used as it is",
            )
        self._held: dict[str, tuple[Nf4Tensor, ...]] = {}
        self._lock = Lock()

    @property
    def path(self) -> Path:
        """The file it was opened from."""
        return self._base.path

    @property
    def files(self) -> Sequence[Path]:
        """All files that it lies in."""
        return self._base.files

    @property
    def name(self) -> str:
        """A name to show."""
        return self._base.name

    @property
    def architecture(self) -> str:
        """The value of ``general.architecture``."""
        return self._base.architecture

    @property
    def file_type(self) -> str:
        """NF4."""
        return TYPE_NAME

    @property
    def file_size(self) -> int:
        """Size of its files in bytes."""
        return self._base.file_size

    @property
    def metadata(self) -> Mapping[str, MetadataValue]:
        """All metadata, by key."""
        return self._base.metadata

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensor index; sizes are those in memory."""
        return {name: self._info(info) for name, info in self._base.tensors.items()}

    def dense(self, name: str) -> FloatArray:
        """Return one tensor as float32 in its NumPy shape; a weight as NF4 has it."""
        parts = self.compact(name)
        if not parts:
            return self._base.dense(name)
        shape = self._base.tensors[name].shape
        return parts[0].dense() if len(shape) == 2 else np.stack([part.dense() for part in parts])

    def compact(self, name: str) -> tuple[Nf4Tensor, ...]:
        """Return a weight in NF4, or that of each expert; nothing for any other tensor."""
        if name not in self._weights:
            return ()
        with self._lock:
            if name not in self._held:
                weight = finite(self._base, name)
                parts = weight[None] if weight.ndim == 2 else weight
                self._held[name] = tuple(quantise_nf4(part) for part in parts)
            return self._held[name]

    def close(self) -> None:
        """Let go of the files."""
        self._base.close()

    def _info(self, info: TensorInfo) -> TensorInfo:
        if info.name not in self._weights:
            return replace(info, type_name="F32", nbytes=4 * math.prod(info.shape))
        *experts, out, width = info.shape
        return replace(info, type_name=TYPE_NAME, nbytes=math.prod(experts) * nf4_bytes((out, width)))
