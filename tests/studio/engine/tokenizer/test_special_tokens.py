"""Tokens whose role stands in their names alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata

if TYPE_CHECKING:
    from studio.contracts import MetadataValue

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def with_tokens(metadata: dict[str, MetadataValue], names: list[str], its_type: int) -> Tokenizer:
    """Add tokens to a small vocabulary."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(types, np.ndarray)
    metadata["tokenizer.ggml.tokens"] = [*tokens, *names]
    metadata["tokenizer.ggml.token_type"] = np.append(types, [its_type] * len(names)).astype(np.int32)
    if (scores := metadata.get("tokenizer.ggml.scores")) is not None:
        assert isinstance(scores, np.ndarray)
        metadata["tokenizer.ggml.scores"] = np.append(scores, np.zeros(len(names), np.float32))
    return tokenizer_from_metadata(metadata)


def ends(tokenizer: Tokenizer) -> set[str]:
    return {tokenizer.piece(token) for token in tokenizer.end_tokens}


def pieces(tokenizer: Tokenizer, text: str, *, parse_special: bool = True) -> list[str]:
    tokens = tokenizer.encode(text, add_special=False, parse_special=parse_special)
    return [tokenizer.piece(token) for token in tokens]


def test_a_part_of_an_answer_ends_no_generation(byte_level: dict[str, MetadataValue]) -> None:
    tokenizer = with_tokens(byte_level, ["<|end|>", "<|return|>", "<|call|>"], CONTROL)
    assert ends(tokenizer) == {"<|im_end|>", "<|return|>", "<|call|>"}
    assert pieces(tokenizer, "<|end|>", parse_special=False) == ["<|end|>"]  # it is shown, as text is


def test_an_end_of_its_own_ends_a_generation(byte_level: dict[str, MetadataValue]) -> None:
    assert ends(with_tokens(byte_level, ["<|end|>", "<|return|>"], NORMAL)) == {
        *("<|im_end|>", "<|end|>", "<|return|>")
    }


def test_channels_are_shown(byte_level: dict[str, MetadataValue]) -> None:
    tokenizer = with_tokens(byte_level, ["<|channel|>"], CONTROL)
    tokens = tokenizer.encode("<|channel|>", parse_special=False)
    assert tokenizer.decode(tokens, skip_special=True) == "<|channel|>"
    assert len(tokens) == 1


def test_a_mark_of_html_is_text_beside_tool_responses(byte_level: dict[str, MetadataValue]) -> None:
    tokenizer = with_tokens(byte_level, ["</s>", "<|tool_response>"], CONTROL)
    assert ends(tokenizer) == {"<|im_end|>", "<|tool_response>"}
    assert "</s>" not in pieces(tokenizer, "</s>")


@pytest.mark.parametrize("name", ["Phi3", "Phi-3 mini"])
def test_tokens_of_phi_3_swallow_the_white_space_after_them(
    sentence_piece: dict[str, MetadataValue], name: str
) -> None:
    sentence_piece["general.name"] = name
    tokenizer = with_tokens(sentence_piece, ["<|user|>"], CONTROL)
    assert pieces(tokenizer, "a <|user|> \n\ta") == [" a", " ", "<|user|>", " a"]
    assert pieces(tokenizer, "<|user|> </s>\n") == ["<|user|>", "</s>"]
    assert pieces(tokenizer, "<s> a") == ["<s>", " ", " a"]  # one of those that do not
    assert pieces(tokenizer, "<|user|>\u3000")[-1] == r"\x80"  # white space of ASCII only
    assert "<|user|>" not in pieces(tokenizer, "<|user|> a", parse_special=False)


def test_tokens_of_other_models_leave_it(sentence_piece: dict[str, MetadataValue]) -> None:
    tokenizer = with_tokens(sentence_piece, ["<|user|>"], CONTROL)
    assert pieces(tokenizer, "<|user|> a") == ["<|user|>", " ", " a"]
