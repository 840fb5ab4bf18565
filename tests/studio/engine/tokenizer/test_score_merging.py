"""SentencePiece vocabularies: merging by score, bytes for the rest, spaces before the text."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata

if TYPE_CHECKING:
    from studio.contracts import MetadataValue

BOS, EOS = 1, 2


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.piece(token) for token in tokenizer.encode(text, add_special=False)]


def test_the_best_score_merges_first(sentence_piece_tokenizer: Tokenizer) -> None:
    # "bc" (-1) goes before "▁a" (-1.5) and "ab" (-2); then nothing joins "▁a" and "bc".
    assert pieces(sentence_piece_tokenizer, "abc") == [" a", "bc"]


def test_of_equal_scores_the_left_one_merges_first(sentence_piece: dict[str, MetadataValue]) -> None:
    sentence_piece["tokenizer.ggml.add_space_prefix"] = False
    tokenizer = tokenizer_from_metadata(sentence_piece)
    assert pieces(tokenizer, "   ") == ["  ", " "]
    assert pieces(tokenizer, "abcab") == ["abc", "ab"]


def test_a_character_without_a_token_becomes_its_bytes(sentence_piece_tokenizer: Tokenizer) -> None:
    tokens = sentence_piece_tokenizer.encode("é", add_special=False)
    assert [sentence_piece_tokenizer.piece(token) for token in tokens] == [" ", r"\xc3", r"\xa9"]
    assert sentence_piece_tokenizer.decode(tokens) == "é"


def test_without_byte_tokens_the_unknown_token_stands_in(sentence_piece: dict[str, MetadataValue]) -> None:
    sentence_piece |= {
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "▁", "a"],
        "tokenizer.ggml.token_type": np.array([2, 3, 3, 1, 1]),
        "tokenizer.ggml.scores": np.zeros(5, np.float32),
    }
    assert tokenizer_from_metadata(sentence_piece).encode("ax", add_special=False) == [3, 4, 0]


def test_each_stretch_of_text_gets_a_space_that_decoding_takes_off(
    sentence_piece_tokenizer: Tokenizer,
) -> None:
    tokens = sentence_piece_tokenizer.encode("a</s>b", add_special=False)
    assert [sentence_piece_tokenizer.piece(token) for token in tokens] == [" a", "</s>", " ", "b"]
    assert sentence_piece_tokenizer.decode(tokens) == "a</s>b"


def test_a_file_may_ask_for_no_space(sentence_piece: dict[str, MetadataValue]) -> None:
    sentence_piece["tokenizer.ggml.add_space_prefix"] = False
    tokenizer = tokenizer_from_metadata(sentence_piece)
    assert pieces(tokenizer, "a") == ["a"]
    assert tokenizer.decode(tokenizer.encode(" a")) == "<s> a"


def test_bos_comes_first_unless_the_file_says_otherwise(sentence_piece: dict[str, MetadataValue]) -> None:
    assert tokenizer_from_metadata(sentence_piece).encode("") == [BOS]
    sentence_piece |= {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": True}
    assert tokenizer_from_metadata(sentence_piece).encode("") == [EOS]


def test_plain_text_never_merges_into_a_control_token(sentence_piece: dict[str, MetadataValue]) -> None:
    tokens = sentence_piece["tokenizer.ggml.tokens"]
    scores = sentence_piece["tokenizer.ggml.scores"]
    assert isinstance(tokens, list) and isinstance(scores, np.ndarray)
    sentence_piece |= {
        "tokenizer.ggml.tokens": [*tokens, "<", "s", ">", "<s"],
        "tokenizer.ggml.scores": np.append(scores, np.zeros(4, np.float32)),
        "tokenizer.ggml.token_type": np.append(sentence_piece["tokenizer.ggml.token_type"], [1, 1, 1, 1]),
    }
    tokenizer = tokenizer_from_metadata(sentence_piece)
    assert tokenizer.encode("<s>", add_special=False) == [BOS]
    plain = tokenizer.encode("<s>", add_special=False, parse_special=False)
    assert [tokenizer.piece(token) for token in plain] == [" ", "<s", ">"]


@settings(deadline=None)
@given(st.text())
def test_any_text_comes_back(sentence_piece_tokenizer: Tokenizer, text: str) -> None:
    tokens = sentence_piece_tokenizer.encode(text, add_special=False)
    assert sentence_piece_tokenizer.decode(tokens) == text.replace("▁", " ")  # the two are one


@settings(deadline=None)
@given(st.text(" abcé", max_size=12))
def test_merging_agrees_with_the_definition(sentence_piece_tokenizer: Tokenizer, text: str) -> None:
    """Merge the best of all pairs, over and over, in the whole text: slow, and plainly right."""
    scores = {"ab": -2.0, "bc": -1.0, "abc": -3.0, "▁a": -1.5, "▁▁": -4.0}
    symbols = list("▁" + text.replace(" ", "▁")) if text else []
    while found := [
        (-scores[left + right], place)
        for place, (left, right) in enumerate(pairwise(symbols))
        if left + right in scores
    ]:
        _, place = min(found)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
    expected = "|".join(symbol.replace("▁", " ") for symbol in symbols)
    assert "|".join(pieces(sentence_piece_tokenizer, text)).replace(r"\xc3|\xa9", "é") == expected
