"""The keys of an adapter's weights, whichever program wrote them, and which way up it has its factors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from studio.api import gguf_module, own_gguf_name

if TYPE_CHECKING:
    import numpy as np

_PEFT = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<half>[AB])(?:\.(?!(?:weight|bias)$)[^.]+)?(?:\.weight)?"
)
_SMALL = re.compile(r"(?P<module>.+)\.lora_(?P<half>[ab])")
_MAGNITUDE = re.compile(r"(?P<module>.+)\.(?:lora_magnitude_vector(?:\.(?!weight$)[^.]+)?(?:\.weight)?|m)")

PREFIX = "base_model.model."
EMBEDDING = "token_embd.weight"


class Layout(Enum):
    """Which way up the halves of a linear module stand."""

    PEFT = "A (r, in), B (out, r); llama.cpp's is the same"
    EMBEDDING = "PEFT's embedding: A (r, vocab), B (embd, r)"
    GGUF_EMBEDDING = "llama.cpp's embedding: A (vocab, r), B (embd, r)"
    MLX = "lora_a (in, r), lora_b (r, out)"
    MLX_EMBEDDING = "lora_a (vocab, r), lora_b (r, embd)"

    def turn(
        self, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return A (r, in) and B (out, r) of the weight as a base has it."""
        if self is Layout.PEFT:
            return a, b
        if self is Layout.EMBEDDING:
            return b.T, a.T
        if self is Layout.GGUF_EMBEDDING:
            return b.T, a
        return (a.T, b.T) if self is Layout.MLX else (b, a)


@dataclass(frozen=True)
class Half:
    """What one key is: the module without PEFT's prefix, ``A``, ``B`` or ``magnitude``, and its layout."""

    key: str
    module: str
    kind: str
    layout: Layout = Layout.PEFT


def half_of(key: str) -> Half | None:
    """Say what a key is; None for one that is no part of a pair.

    Small letters after Hugging Face's names are MLX-LM's, after GGUF's names llama.cpp's.
    """
    if match := _PEFT.fullmatch(key):
        layout = Layout.EMBEDDING if match["embedding"] else Layout.PEFT
        return Half(key, match["module"].removeprefix(PREFIX), match["half"], layout)
    if match := _SMALL.fullmatch(key):
        module = match["module"]
        own = own_gguf_name(module)
        if own is not None:
            layout = Layout.GGUF_EMBEDDING if own == EMBEDDING else Layout.PEFT
        else:
            is_embedding = gguf_module(module, "llama") == EMBEDDING
            layout = Layout.MLX_EMBEDDING if is_embedding else Layout.MLX
        return Half(key, module, match["half"].upper(), layout)
    if match := _MAGNITUDE.fullmatch(key):
        return Half(key, match["module"].removeprefix(PREFIX), "magnitude")
    return None


def is_whole_weight(key: str) -> bool:
    """Say whether a key that is no half is a weight or bias of the base's own, trained whole."""
    return key.endswith((".weight", ".bias")) and not key.endswith(".base_layer.weight")
