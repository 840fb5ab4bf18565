"""Character-level BPE: merging by rank in whole lines, bytes for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata
from studio.errors import FormatError

if TYPE_CHECKING:
    from studio.contracts import MetadataValue

BOS = 1


def _metadata() -> dict[str, MetadataValue]:
    """Write a vocabulary: three tokens with a role, all 256 bytes, characters, and what they merge into."""
    special = ["<eos>", "<bos>", "<unk>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    merges = ["a ▁", "a▁ b", "▁ ▁", "\n \n"]
    tokens = [*special, *byte_tokens, "▁", "a", "b", "\n", *(merge.replace(" ", "") for merge in merges)]
    types = np.ones(len(tokens), np.int32)
    types[:3], types[3:259] = (3, 3, 2), 6
    return {
        "tokenizer.ggml.model": "gemma4",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.bos_token_id": BOS,
    }


@pytest.fixture(scope="module")
def character_level() -> Tokenizer:
    return tokenizer_from_metadata(_metadata())


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.piece(token) for token in tokenizer.encode(text, add_special=False)]


def test_tokens_reach_across_spaces(character_level: Tokenizer) -> None:
    assert pieces(character_level, "a ba") == ["a b", "a"]
    assert pieces(character_level, "b   b") == ["b", "  ", " ", "b"]


def test_line_ends_merge_among_themselves(character_level: Tokenizer) -> None:
    assert pieces(character_level, "a\n\n\nb") == ["a", "\n\n", "\n", "b"]


def test_a_character_without_a_token_becomes_its_bytes(character_level: Tokenizer) -> None:
    assert pieces(character_level, "aé") == ["a", r"\xc3", r"\xa9"]


def test_bos_comes_first_whatever_the_file_says() -> None:
    metadata = _metadata() | {"tokenizer.ggml.add_bos_token": False}
    assert tokenizer_from_metadata(metadata).encode("") == [BOS]


def test_files_may_name_it_as_a_pre_tokenizer(character_level: Tokenizer) -> None:
    metadata = _metadata() | {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gemma4"}
    assert tokenizer_from_metadata(metadata).encode("a bé") == character_level.encode("a bé")


def test_merges_have_to_fit_the_vocabulary() -> None:
    metadata = _metadata() | {"tokenizer.ggml.merges": ["a b"]}
    with pytest.raises(FormatError, match="do not fit the vocabulary"):
        tokenizer_from_metadata(metadata)


@settings(deadline=None)
@given(st.text())
def test_any_text_comes_back(character_level: Tokenizer, text: str) -> None:
    tokens = character_level.encode(text, add_special=False, parse_special=False)
    assert character_level.decode(tokens) == text.replace("▁", " ")  # the two are one


@settings(deadline=None)
@given(st.text("ab \n<eos>", max_size=20))
def test_control_tokens_come_back(character_level: Tokenizer, text: str) -> None:
    assert character_level.decode(character_level.encode(text, add_special=False)) == text
