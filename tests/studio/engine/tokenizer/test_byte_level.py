"""Byte-level BPE: a real vocabulary against a reference, a small one by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata
from studio.engine.tokenizer.byte_level import LONGEST_RUN, word_splitter
from studio.engine.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from studio.errors import EngineError

if TYPE_CHECKING:
    from typing import Any

    from studio.contracts import MetadataValue

# SmolLM2's vocabulary lacks the bytes of these: some control characters and planes without characters.
IN_SMOLLM2 = st.characters(
    exclude_characters="\x04\x06\x13\x14\x16\x1d", exclude_categories=("Cs", "Co", "Cn")
)


def pieces(tokenizer: Tokenizer, text: str, **options: bool) -> list[str]:
    return [tokenizer.piece(token) for token in tokenizer.encode(text, **options)]


def test_the_reference_prompts_have_the_reference_tokens(
    smollm2_tokenizer: Tokenizer, reference: list[Any]
) -> None:
    for case in reference:
        assert smollm2_tokenizer.encode(case.prompt) == case.tokens


def test_pieces_of_a_real_vocabulary(smollm2_tokenizer: Tokenizer) -> None:
    assert pieces(smollm2_tokenizer, "The year 2026!") == ["The", " year", " ", "2", "0", "2", "6", "!"]


def test_pairs_merge_by_rank(byte_level: dict[str, MetadataValue]) -> None:
    tokenizer = tokenizer_from_metadata(byte_level)
    assert pieces(tokenizer, "hello helo") == ["hello", " ", "he", "l", "o"]
    assert pieces(tokenizer, "oh hello") == ["o", "h", " hello"]


@pytest.mark.parametrize(
    ("pre", "words"),
    [
        ("gpt-2", ["IT", "'", "S", " it", "'s", " 2026", "\n", "\n", "…"]),
        ("smollm", ["IT", "'", "S", " it", "'s", " ", "2", "0", "2", "6", "\n", "\n", "…"]),
        ("llama-bpe", ["IT", "'S", " it", "'s", " ", "202", "6", "\n\n", "…"]),
        ("qwen2", ["IT", "'S", " it", "'s", " ", "2", "0", "2", "6", "\n\n", "…"]),
    ],
)
def test_each_family_cuts_words_in_its_own_way(pre: str, words: list[str]) -> None:
    splitter = word_splitter(PRE_TOKENIZERS[pre])
    assert [word for word, _ in splitter.pre_tokenize_str("IT'S it's 2026\n\n…")] == words


@pytest.mark.parametrize(
    ("pre", "words"),
    [
        ("falcon", ["McDonald", "'", "s", " ", "$", "123", "4", ",", " \n", "\n", "你好é", "/", "\n"]),
        ("minicpm5", ["McDonald", "'s", " $", "123", "4", ",", " \n\n", "你好é", "/\n"]),
        ("jais-2", ["McDonald", "'s", " $", "123", "4", ",", " \n\n", "你好é", "/\n"]),
        ("gpt-4o", ["Mc", "Donald's", " $", "123", "4", ",", " \n\n", "你好é", "/\n"]),
        ("tekken", ["Mc", "Donald", "'s", " $", "1", "2", "3", "4", ",", " \n\n", "你好é", "/\n"]),
        (
            "deepseek-llm",
            ["McDonald", "'", "s", " $", *"1234", ",", " ", "\n", "\n", "你好", "é", "/", "\n"],
        ),
        (
            "deepseek-coder",
            ["McDonald", "'", "s", " $", *"1234", ",", " ", "\n", "\n", "你好", "é", "/", "\n"],
        ),
        ("deepseek-v3", ["McDonald", "'s", " $", "123", "4", ",", " \n\n", "你好", "é", "/\n"]),
        ("spark2_5", ["McDonald", "'s", " $", *"1234", ",", " \n\n", "你好", "é", "/", "\n"]),
        ("bloom", ["McDonald's", " $1234", ", \n\n", "你好é/", "\n"]),
        ("viking", ["McDonald's", " $", *"1234", ", \n\n", "你好é/", "\n"]),
        ("seed-coder", ["McDonald", "'s", " $", *"1234", ",", " \n\n", "你好é", "/", "\n"]),
        ("bailingmoe", ["McDonald", "'s", " $", *"1234", ",", " \n\n", "你好é", "/\n"]),
        ("exaone-moe", ["McDonald", "'s", " $", *"1234", ",", " \n\n", "你好é", "/\n"]),
    ],
)
def test_later_families_cut_words_in_their_own_ways(pre: str, words: list[str]) -> None:
    splitter = word_splitter(PRE_TOKENIZERS[pre])
    assert [word for word, _ in splitter.pre_tokenize_str("McDonald's $1234, \n\n你好é/\n")] == words


@settings(deadline=None)
@given(st.sampled_from(sorted(PRE_TOKENIZERS)), st.text())
def test_cutting_loses_nothing(pre: str, text: str) -> None:
    words = word_splitter(PRE_TOKENIZERS[pre]).pre_tokenize_str(text)
    assert "".join(word for word, _ in words) == text


def test_qwen35_keeps_marks_with_their_letters() -> None:
    def words(pre: str) -> list[str]:
        return [word for word, _ in word_splitter(PRE_TOKENIZERS[pre]).pre_tokenize_str("e\u0301te\u0301")]

    assert words("qwen35") == ["e\u0301te\u0301"]
    assert words("qwen2") == ["e", "\u0301te", "\u0301"]


def test_llama_bpe_takes_a_known_word_whole(byte_level: dict[str, MetadataValue]) -> None:
    tokens = byte_level["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    tokens[-1] = "ollo"  # a token that no merge makes
    byte_level |= {"tokenizer.ggml.merges": ["h e", "l l", "he ll", "hell o"]}
    assert pieces(tokenizer_from_metadata(byte_level), "ollo") == ["o", "ll", "o"]
    byte_level["tokenizer.ggml.pre"] = "llama-bpe"
    assert pieces(tokenizer_from_metadata(byte_level), "ollo", add_special=False) == ["ollo"]


@settings(deadline=None)
@given(st.text())
def test_any_text_comes_back(byte_level_tokenizer: Tokenizer, text: str) -> None:
    assert byte_level_tokenizer.decode(byte_level_tokenizer.encode(text)) == text


@settings(deadline=None)
@given(st.text(IN_SMOLLM2))
def test_any_text_comes_back_from_a_real_vocabulary(smollm2_tokenizer: Tokenizer, text: str) -> None:
    assert smollm2_tokenizer.decode(smollm2_tokenizer.encode(text)) == text


def test_lone_surrogates_become_the_replacement_character(byte_level_tokenizer: Tokenizer) -> None:
    assert byte_level_tokenizer.decode(byte_level_tokenizer.encode("a\ud83db\ud83d\ude00")) == "a\ufffdb😀"


def test_an_endless_run_of_spaces_is_an_error_and_not_a_panic(byte_level_tokenizer: Tokenizer) -> None:
    with pytest.raises(EngineError, match="spaces"):
        byte_level_tokenizer.encode(" " * (LONGEST_RUN + 1) + "a")
