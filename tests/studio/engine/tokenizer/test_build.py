"""Damaged and unknown tokenizer metadata: an error that names the key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from studio.engine.tokenizer import tokenizer_from_metadata
from studio.errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from studio.contracts import MetadataValue


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokens", None),
        ("tokens", []),
        ("tokens", "text"),
        ("tokens", np.arange(265)),
        ("tokens", [f"same{n % 264}" for n in range(265)]),
        ("token_type", [1] * 265),
        ("token_type", np.ones(264, np.int32)),
        ("token_type", np.ones(265, np.float32)),
        ("token_type", np.full(265, 99, np.int32)),
        ("merges", None),
        ("merges", ["h e", "no such"]),
        ("merges", ["he"]),
        ("merges", ["h e l"]),
        ("merges", np.arange(5)),
        ("bos_token_id", 265),
        ("bos_token_id", -1),
        ("eos_token_id", "two"),
        ("eot_token_id", True),
        ("add_bos_token", "yes"),
        ("pre", 7),
        ("model", 7),
    ],
)
def test_damaged_byte_level_metadata_is_named(byte_level: dict[str, Any], key: str, value: object) -> None:
    name = f"tokenizer.ggml.{key}"
    byte_level[name] = value
    if value is None:
        del byte_level[name]
    with pytest.raises(FormatError) as caught:
        tokenizer_from_metadata(byte_level, Path("model.gguf"))
    assert (caught.value.where, caught.value.path) == (name, Path("model.gguf"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scores", None),
        ("scores", np.zeros(3, np.float32)),
        ("scores", np.full(268, np.nan, np.float32)),
        ("scores", ["0.0"] * 268),
        ("unknown_token_id", 268),
        ("add_space_prefix", 1),
    ],
)
def test_damaged_sentence_piece_metadata_is_named(
    sentence_piece: dict[str, Any], key: str, value: object
) -> None:
    name = f"tokenizer.ggml.{key}"
    sentence_piece[name] = value
    if value is None:
        del sentence_piece[name]
    with pytest.raises(FormatError) as caught:
        tokenizer_from_metadata(sentence_piece)
    assert caught.value.where == name


@pytest.mark.parametrize("text", ["<0x-1>", "<0x100>", "<0xZZ>", "0A"])
def test_a_byte_token_has_to_be_a_byte(sentence_piece: dict[str, Any], text: str) -> None:
    sentence_piece["tokenizer.ggml.tokens"][3] = text
    with pytest.raises(FormatError, match="token 3 is a byte"):
        tokenizer_from_metadata(sentence_piece)


def test_bos_has_to_be_named_where_the_file_asks_for_it(byte_level: dict[str, Any]) -> None:
    byte_level["tokenizer.ggml.add_bos_token"] = True
    del byte_level["tokenizer.ggml.bos_token_id"]
    with pytest.raises(FormatError, match="bos_token_id"):
        tokenizer_from_metadata(byte_level)


@pytest.mark.parametrize("name", ["bert", "t5", "rwkv", "plamo2", "something"])
def test_an_unknown_tokenizer_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        tokenizer_from_metadata({"tokenizer.ggml.model": name})


def test_a_file_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no tokenizer"):
        tokenizer_from_metadata({})


@pytest.mark.parametrize("name", ["default", "superbpe", "something"])
def test_an_unknown_pre_tokenizer_is_refused_by_name(byte_level: dict[str, Any], name: str) -> None:
    byte_level["tokenizer.ggml.pre"] = name
    with pytest.raises(UnsupportedError, match=name):
        tokenizer_from_metadata(byte_level)


def test_a_missing_pre_tokenizer_is_not_guessed(byte_level: dict[str, Any]) -> None:
    del byte_level["tokenizer.ggml.pre"]
    with pytest.raises(UnsupportedError, match="tokenizer.ggml.pre"):
        tokenizer_from_metadata(byte_level)


def test_empty_tokens_are_placeholders(byte_level: dict[str, MetadataValue]) -> None:
    tokens, types = byte_level["tokenizer.ggml.tokens"], byte_level["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(types, np.ndarray)
    byte_level["tokenizer.ggml.tokens"] = [*tokens, "", ""]
    byte_level["tokenizer.ggml.token_type"] = np.append(types, [3, 4])
    tokenizer = tokenizer_from_metadata(byte_level)
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"
    assert tokenizer.piece(len(tokens)) == ""
