"""From Hugging Face's module names and row order to GGUF's, and back where rows are concerned."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

from studio.errors import FormatError, MismatchError, UnsupportedError
from studio.lora.targets import layer_of, target_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import FloatArray, MetadataValue

PERMUTED_ARCHITECTURES = frozenset(
    "arcee arctic baichuan chameleon deci deepseek granite granite-swa granitehybrid granitemoe llada llama "
    "llama-embed minicpm mistral3 nanbeige olmo smollm3 xverse".split()
)
"""Whose converters reorder the rows of Q and K: GGUF rotates pairs there, Hugging Face rotates halves.

From llama.cpp's conversion/*.py: the classes that call ``permute``, and those that inherit it.
"""

_HEAD_COUNT_KEYS = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}

_FUSED = re.compile(
    r"(?:.*\.)?layers\.(?P<layer>\d{1,9})\.(?P<part>self_attn\.qkv_proj|self_attn\.[qkv]_proj|mlp\.gate_proj)"
)
_FUSED_TARGETS = {
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "mlp.gate_proj": "ffn_gate",
}
"""Weights that one architecture fuses and another keeps apart, so that `studio.lora.fusing` finds both."""

_GGUF_NAME = re.compile(r"(?:blk\.\d{1,9}\.[a-z0-9_]+|token_embd|output)(?:\.weight)?")


def own_gguf_name(name: str) -> str | None:
    """Return the module that a name means if it is a GGUF one already, its ``.weight`` perhaps left out."""
    return f"{name.removesuffix('.weight')}.weight" if _GGUF_NAME.fullmatch(name) else None


def gguf_module(hugging_face_module: str, architecture: str) -> str | None:
    """Return the GGUF weight name of a Hugging Face module, or None where the architecture has none.

    Parameters
    ----------
    hugging_face_module
        Such as ``model.layers.3.self_attn.q_proj``; PEFT's prefix ``base_model.model.`` may stand before it,
        and the inner ``model.`` may be missing.
    architecture
        A GGUF architecture, such as ``llama``.

    Raises
    ------
    UnsupportedError
        The architecture's names are not known.
    """
    names = _name_map(architecture)
    if fused := _FUSED.fullmatch(hugging_face_module):
        target = _FUSED_TARGETS[fused["part"]]
        if names.get_name(f"model.layers.0.{fused['part']}") is None:
            return f"blk.{int(fused['layer'])}.{target}.weight"
    plain = hugging_face_module.removeprefix("base_model.model.").replace("language_model.", "")
    # One block's names stand for all of them, so a made-up layer number costs nothing.
    layer = re.search(r"(?<=\.)\d{1,9}(?=\.)", f".{plain}.")
    pattern = re.sub(r"(?<=\.)\d{1,9}(?=\.)", "0", plain, count=1)
    for candidate in (pattern, f"model.{pattern}"):
        name: str | None = names.get_name(candidate)
        if name is not None:
            return (f"blk.{int(layer[0])}." + name.removeprefix("blk.0.") if layer else name) + ".weight"
    return None


def rotated_heads(module: str, architecture: str, metadata: Mapping[str, MetadataValue]) -> int | None:
    """Return by how many heads a module's rows are reordered between Hugging Face and GGUF; None: not at all.

    Raises
    ------
    FormatError
        The metadata lacks a usable head count.
    """
    key = _HEAD_COUNT_KEYS.get(target_of(module))
    if key is None or architecture not in PERMUTED_ARCHITECTURES:
        return None
    count: Any = metadata.get(f"{architecture}.{key}", metadata.get(f"{architecture}.attention.head_count"))
    layer = layer_of(module)
    if isinstance(count, np.ndarray | list):  # one count a layer
        count = count[layer] if layer is not None and layer < len(count) else None
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise FormatError(
            "it is not known how many heads the base has"
            if count is None
            else f"the head count is {count!r}",
            where=f"{architecture}.{key}",
            remedy="The rows of Q and K cannot be brought into the base's order without it",
        )
    return int(count)


def rows_to_gguf(rows: FloatArray, heads: int) -> FloatArray:
    """Reorder rows ``[heads * head_dim, ...]`` from rotated halves (Hugging Face) to rotated pairs (GGUF)."""
    return _swap_rows(rows, (heads, 2, _half_head(rows, heads)))


def rows_to_hugging_face(rows: FloatArray, heads: int) -> FloatArray:
    """Reorder rows ``[heads * head_dim, ...]`` from rotated pairs (GGUF) to rotated halves (Hugging Face)."""
    return _swap_rows(rows, (heads, _half_head(rows, heads), 2))


def _swap_rows(rows: FloatArray, split: tuple[int, int, int]) -> FloatArray:
    return np.ascontiguousarray(rows.reshape(*split, *rows.shape[1:]).swapaxes(1, 2)).reshape(rows.shape)


def _half_head(rows: FloatArray, heads: int) -> int:
    if rows.shape[0] % (2 * heads):
        raise MismatchError(
            f"{rows.shape[0]} rows do not divide into {heads} heads of an even size",
            remedy="Take the adapter of this very base",
        )
    return int(rows.shape[0]) // (2 * heads)


@lru_cache(maxsize=8)
def _name_map(architecture: str) -> Any:
    for key, name in MODEL_ARCH_NAMES.items():
        if name == architecture:
            return get_tensor_name_map(key, n_blocks=1)
    raise UnsupportedError(
        f"the module names of architecture {architecture!r} are not known",
        remedy="Convert the adapter to GGUF with the tool that made the base",
    )
