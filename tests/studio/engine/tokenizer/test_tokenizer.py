"""What every tokenizer does around its segmenter: special tokens, BOS and EOS, streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata
from studio.errors import EngineError

if TYPE_CHECKING:
    from studio.contracts import MetadataValue

START, END, TOOL, LONGER_TOOL = range(4)


def test_control_tokens_are_read_only_when_asked(byte_level_tokenizer: Tokenizer) -> None:
    assert byte_level_tokenizer.encode("<|begin|>") == [START]
    assert START not in byte_level_tokenizer.encode("<|begin|>", parse_special=False)


def test_user_defined_tokens_always_match_and_the_longest_wins(byte_level_tokenizer: Tokenizer) -> None:
    for parse_special in (True, False):
        tokens = byte_level_tokenizer.encode("<tool><tool>>", parse_special=parse_special)
        assert tokens == [TOOL, LONGER_TOOL]


def test_text_around_special_tokens_is_kept(byte_level_tokenizer: Tokenizer) -> None:
    tokens = byte_level_tokenizer.encode("hello<|im_end|> hello")
    assert [byte_level_tokenizer.piece(token) for token in tokens] == ["hello", "<|im_end|>", " hello"]
    assert byte_level_tokenizer.decode(tokens) == "hello<|im_end|> hello"
    assert byte_level_tokenizer.decode(tokens, skip_special=True) == "hello hello"


def test_no_token_reaches_from_one_part_into_the_next(byte_level_tokenizer: Tokenizer) -> None:
    parts = byte_level_tokenizer.encode_parts(["hel", "", "lo<|im_end|>", " hello"])
    assert [[byte_level_tokenizer.piece(token) for token in part] for part in parts] == [
        ["he", "l"],
        [],
        ["l", "o", "<|im_end|>"],
        [" hello"],
    ]


def test_only_the_beginning_of_a_stretch_gets_a_space(sentence_piece_tokenizer: Tokenizer) -> None:
    whole = sentence_piece_tokenizer.encode("a cb</s>a", add_special=False)
    parts = sentence_piece_tokenizer.encode_parts(["a ", "cb", "</s>", "a"])
    assert [token for part in parts for token in part] == whole


def test_a_token_swallows_the_space_of_the_next_part(sentence_piece: dict[str, MetadataValue]) -> None:
    sentence_piece["general.name"] = "phi-3"
    tokenizer = tokenizer_from_metadata(sentence_piece)
    assert tokenizer.encode_parts(["</s>", " \na"]) == tokenizer.encode_parts(["</s>", "a"])


def test_bos_and_eos_are_added_where_the_file_asks(byte_level: dict[str, MetadataValue]) -> None:
    byte_level |= {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    tokenizer = tokenizer_from_metadata(byte_level)
    hello = tokenizer.encode("hello", add_special=False)
    assert tokenizer.encode("hello") == [START, *hello, END]


def test_llama_bpe_puts_bos_first_by_itself(byte_level: dict[str, MetadataValue]) -> None:
    byte_level["tokenizer.ggml.pre"] = "llama-bpe"
    assert tokenizer_from_metadata(byte_level).encode("") == [START]


def test_end_tokens_are_known_by_role_and_by_name(byte_level: dict[str, MetadataValue]) -> None:
    byte_level["tokenizer.ggml.eos_token_id"] = LONGER_TOOL
    byte_level["tokenizer.ggml.eot_token_id"] = TOOL
    assert tokenizer_from_metadata(byte_level).end_tokens == {LONGER_TOOL, TOOL, END}


def test_end_tokens_of_a_real_vocabulary(smollm2_tokenizer: Tokenizer) -> None:
    ends = {smollm2_tokenizer.piece(token) for token in smollm2_tokenizer.end_tokens}
    assert ends == {"<|endoftext|>", "<|im_end|>", "<reponame>"}


def test_an_end_token_is_a_control_token_whatever_its_type_says(byte_level: dict[str, MetadataValue]) -> None:
    types = byte_level["tokenizer.ggml.token_type"]
    assert isinstance(types, np.ndarray)
    types[END] = 4
    tokenizer = tokenizer_from_metadata(byte_level)
    assert tokenizer.special_ids == {START, END}
    assert END not in tokenizer.encode("<|im_end|>", parse_special=False)


def test_vocabulary_size(smollm2_tokenizer: Tokenizer) -> None:
    assert smollm2_tokenizer.vocabulary_size == 49152


@pytest.mark.parametrize("token", [-1, 49152])
def test_a_token_out_of_range_is_refused(smollm2_tokenizer: Tokenizer, token: int) -> None:
    with pytest.raises(EngineError, match=str(token)):
        smollm2_tokenizer.decode([token])


def test_a_stream_holds_a_character_back_until_it_is_whole(byte_level_tokenizer: Tokenizer) -> None:
    stream = byte_level_tokenizer.stream()
    assert [stream.feed(token) for token in byte_level_tokenizer.encode("a😀é")] == [
        *["a", "", "", "", "😀"],
        *["", "é"],
    ]
    assert stream.finish() == ""


def test_a_stream_that_ends_early_says_so(byte_level_tokenizer: Tokenizer) -> None:
    stream = byte_level_tokenizer.stream()
    assert "".join(stream.feed(token) for token in byte_level_tokenizer.encode("😀")[:-1]) == ""
    assert stream.finish() == "\ufffd"


@settings(deadline=None)
@given(st.lists(st.integers(0, 49151)))
def test_a_stream_writes_what_decoding_writes(smollm2_tokenizer: Tokenizer, tokens: list[int]) -> None:
    stream = smollm2_tokenizer.stream()
    written = "".join([stream.feed(token) for token in tokens]) + stream.finish()
    assert written == smollm2_tokenizer.decode(tokens)


def test_a_stream_that_continues_a_prompt_keeps_the_space(sentence_piece_tokenizer: Tokenizer) -> None:
    prompt = sentence_piece_tokenizer.encode("b")
    (space_a,) = sentence_piece_tokenizer.encode("a", add_special=False)
    assert sentence_piece_tokenizer.stream().feed(space_a) == "a"
    assert sentence_piece_tokenizer.stream(prompt).feed(space_a) == " a"


def test_a_stream_completes_a_character_that_the_prompt_began(byte_level_tokenizer: Tokenizer) -> None:
    first, *rest = byte_level_tokenizer.encode("é")
    stream = byte_level_tokenizer.stream([first])
    assert [stream.feed(token) for token in rest] == ["é"]
