"""The metadata keys and tensor suffixes of llama.cpp's adapter files, and how to tell them from models.

https://github.com/ggml-org/llama.cpp/blob/master/src/llama-adapter.cpp
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

from studio.api import FormatError, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from studio.api import BaseModel, GgufHeader

TYPE = "general.type"
ARCHITECTURE = "general.architecture"
NAME = "general.name"
ADAPTER_TYPE = "adapter.type"
ALPHA = "adapter.lora.alpha"
INVOCATION_TOKENS = "adapter.alora.invocation_tokens"
UNIFORM_RANK = "lora.r"
UNIFORM_ALPHA = "lora.alpha"
"""Rank and alpha for readers that scale every module by the same two numbers, as oxillama does."""
SUFFIX_A = ".lora_a"
SUFFIX_B = ".lora_b"
_OTHER_DIALECT = re.compile(r"lora_[ab]\.|lora\..+\.weight_[ab]$")
"""Adapters with these names are neither models nor llama.cpp's: another plugin reads them."""
EMBEDDING = "token_embd.weight"
"""Its A is (vocab, r) and its B (embd, r): the other way up than a linear weight's."""
OUTPUT = "output.weight"


class Kind(Enum):
    """What a file is."""

    MODEL = auto()
    ADAPTER = auto()
    DAMAGED = auto()
    OTHER = auto()


def kind_of(path: Path) -> Kind:
    """Tell models from adapters by content; a damaged GGUF file may be either. Never raises."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                return Kind.OTHER
        header = read_header(path)
    except FormatError:
        return Kind.DAMAGED
    except (OSError, ValueError):
        return Kind.OTHER
    if is_adapter(header):
        return Kind.ADAPTER
    return Kind.OTHER if any(_OTHER_DIALECT.match(name) for name in header.tensors) else Kind.MODEL


def is_adapter(file: GgufHeader | BaseModel) -> bool:
    """Say whether the file calls itself an adapter or holds factors."""
    return file.metadata.get(TYPE) == "adapter" or any(name.endswith(SUFFIX_A) for name in file.tensors)
