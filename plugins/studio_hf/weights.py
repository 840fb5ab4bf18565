"""The tensors of a merged model as Hugging Face has them, each made when its turn comes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from studio.api import (
    PendingTensor,
    UnsupportedError,
    combined_delta,
    dense_delta,
    hugging_face_module,
    rotated_heads,
    rows_to_hugging_face,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.api import BaseModel, ExportRequest, FloatArray

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
SCALED_POSITIONS = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})
"""What the configuration says at Hugging Face's."""

NORMS_WITHOUT_ONE = frozenset({"gemma2", "gemma3"})
"""Whose norms' weights lack the 1 that GGUF files have in them."""

MIXTRAL_NAMES = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def merged_tensors(request: ExportRequest, modules: frozenset[str]) -> dict[str, PendingTensor]:
    """Return the tensors by their Hugging Face names.

    Parameters
    ----------
    request
        The base and the blend.
    modules
        The modules that the blend acts on.

    Raises
    ------
    UnsupportedError
        A tensor of the base has no name at Hugging Face's.
    """
    base = request.base
    tensors: dict[str, PendingTensor] = {}
    merge = _Merge(request, modules)
    for name, info in base.tensors.items():
        if name in SCALED_POSITIONS:
            continue
        if len(info.shape) == 3:
            for expert in range(info.shape[0]):
                make = partial(_one_expert, merge, name, expert)
                tensors[_expert_name(name, expert, base)] = PendingTensor(info.shape[1:], make)
        else:
            shape = _shape(name, info.shape, base)
            tensors[_name(name, base)] = PendingTensor(shape, partial(_converted, merge, name, base, shape))
    if OUTPUT not in base.tensors and not is_tied(base, modules):
        shape = base.tensors[EMBEDDING].shape
        tensors[_name(OUTPUT, base)] = PendingTensor(shape, lambda: merge(OUTPUT))
    return tensors


def is_tied(base: BaseModel, modules: frozenset[str]) -> bool:
    """Say whether the merged model's output is its embedding still.

    An adapter acts on the look-up or on the output, and not on both at once, so the two part.
    """
    return OUTPUT not in base.tensors and not modules & {EMBEDDING, OUTPUT}


class _Merge:
    """Makes merged weights, and keeps the last: the experts of one weight are asked for one by one."""

    def __init__(self, request: ExportRequest, modules: frozenset[str]) -> None:
        self._request = request
        self._modules = modules
        self._last: tuple[str, FloatArray] | None = None

    def __call__(self, name: str) -> FloatArray:
        """Return one weight with its delta in it."""
        if self._last is not None and self._last[0] == name:
            return self._last[1]
        self._last = None  # so that two are never held
        base = self._request.base
        weight = base.dense(name if name in base.tensors else EMBEDDING)
        delta = combined_delta(self._request, name) if name in self._modules else None
        if delta is not None:
            weight += dense_delta(delta)
        if weight.ndim == 3:
            self._last = (name, weight)
        return weight


def _one_expert(merge: _Merge, name: str, expert: int) -> FloatArray:
    weight: FloatArray = merge(name)[expert]
    return weight


def _converted(merge: _Merge, name: str, base: BaseModel, shape: tuple[int, ...]) -> FloatArray:
    """Make a merged tensor in the form and the shape that it has at Hugging Face's."""
    weight = merge(name)
    stem = name.rpartition(".")[0]
    heads = rotated_heads(f"{stem}.weight", base.architecture, base.metadata)
    if heads is not None:
        weight = rows_to_hugging_face(weight, heads)
    elif base.architecture in NORMS_WITHOUT_ONE and name.endswith("_norm.weight"):
        weight = weight - np.float32(1)
    elif _is_transposed(name, base):
        weight = np.ascontiguousarray(weight.T)
    return weight.reshape(shape)


def _shape(name: str, shape: tuple[int, ...], base: BaseModel) -> tuple[int, ...]:
    if name.endswith("ffn_gate_inp_shexp.weight"):
        return (1, shape[-1])  # GGUF leaves the 1 away
    return shape[::-1] if _is_transposed(name, base) else shape


def _is_transposed(name: str, base: BaseModel) -> bool:
    return base.architecture == "gpt2" and name.startswith("blk.") and len(base.tensors[name].shape) == 2


def _name(name: str, base: BaseModel) -> str:
    stem, _, kind = name.rpartition(".")
    module = hugging_face_module(f"{stem}.weight", base.architecture)
    if module is None:
        raise UnsupportedError(
            f"Hugging Face's {base.architecture} has no tensor for it",
            path=base.path,
            where=name,
            remedy="Merge into GGUF",
        )
    if _is_mixtral(base):
        module = module.replace(".mlp.gate", ".block_sparse_moe.gate")
    return f"{module}.{kind}"


def _expert_name(name: str, expert: int, base: BaseModel) -> str:
    stem, _, part = _name(name, base).removesuffix(".weight").rpartition(".")
    if _is_mixtral(base):
        stem, part = stem.replace(".mlp.", ".block_sparse_moe."), MIXTRAL_NAMES[part]
    return f"{stem}.{expert}.{part}.weight"


def _is_mixtral(base: BaseModel) -> bool:
    return base.architecture == "llama" and bool(base.metadata.get("llama.expert_count"))


def in_shards(
    tensors: Mapping[str, PendingTensor], sizes: Mapping[str, int], largest: float
) -> list[dict[str, PendingTensor]]:
    """Cut tensors, in their order, into files of at most `largest` bytes; one that is larger has its own."""
    shards: list[dict[str, PendingTensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + sizes[name] > largest:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += sizes[name]
    return shards
