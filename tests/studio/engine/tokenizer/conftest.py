"""Small vocabularies, written out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata
from studio.engine.tokenizer.byte_level import BYTE_OF_CHARACTER

if TYPE_CHECKING:
    from studio.contracts import MetadataValue

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def _byte_level() -> dict[str, MetadataValue]:
    """All 256 bytes, five merges, and four tokens that stand apart."""
    merges = ["h e", "l l", "he ll", "hell o", "Ġ hello"]
    special = {"<|begin|>": CONTROL, "<|im_end|>": CONTROL, "<tool>": USER_DEFINED, "<tool>>": USER_DEFINED}
    tokens = [*special, *BYTE_OF_CHARACTER, *(merge.replace(" ", "") for merge in merges)]
    types = [*special.values(), *[NORMAL] * (len(tokens) - len(special))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }


def _sentence_piece() -> dict[str, MetadataValue]:
    """Three tokens with a role, all 256 bytes, and pieces: the higher its score, the sooner one merges."""
    special = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    pieces = {
        "▁": -9.0,
        "a": -9.0,
        "b": -9.0,
        "c": -9.0,
        "ab": -2.0,
        "bc": -1.0,
        "abc": -3.0,
        "▁a": -1.5,
        "▁▁": -4.0,
    }
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*special, *byte_tokens, *pieces],
        "tokenizer.ggml.token_type": np.array(
            [*special.values(), *[BYTE] * 256, *[NORMAL] * len(pieces)], np.int32
        ),
        "tokenizer.ggml.scores": np.array([*[0.0] * 259, *pieces.values()], np.float32),
    }


@pytest.fixture
def byte_level() -> dict[str, MetadataValue]:
    """Metadata of a small byte-level vocabulary, for a test to change."""
    return _byte_level()


@pytest.fixture
def sentence_piece() -> dict[str, MetadataValue]:
    """Metadata of a small SentencePiece vocabulary, for a test to change."""
    return _sentence_piece()


@pytest.fixture(scope="session")
def byte_level_tokenizer() -> Tokenizer:
    return tokenizer_from_metadata(_byte_level())


@pytest.fixture(scope="session")
def sentence_piece_tokenizer() -> Tokenizer:
    return tokenizer_from_metadata(_sentence_piece())
