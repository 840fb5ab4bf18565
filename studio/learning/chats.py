"""Conversations to learn the answers of, written and marked through the model's own chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from studio.contracts import Example
from studio.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studio.engine.tokenizer import Tokenizer

ANSWERING = "assistant"
"""The role of the messages that are learnt."""


def chat_example(messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> Example:
    """Write a conversation as the model reads it, up to its last answer; its answers alone are predicted.

    An answer begins where the template, asked for the opening of the assistant's next message, stops, and
    ends with the last token there that ends a turn. No token reaches across its beginning, as none does when
    the model answers. A message of the assistant that comes first of all answers nothing, and is only read.

    Parameters
    ----------
    messages
        Each has a ``role`` and its ``content``.
    tokenizer
        Of the model.

    Raises
    ------
    UnsupportedError
        The model has no chat template, or it refuses these messages, or writes a message otherwise once
        others follow, so that what is learnt would not be what is asked for later.
    FormatError
        The template is faulty, or ran past its limits.
    """
    answers = [index for index, message in enumerate(messages) if index and message["role"] == ANSWERING]
    if not answers:
        return Example((), ())
    prefixes = [prefix for index in answers for prefix in ((index, True), (index + 1, False))]
    parts = _steps(tokenizer.render_chat_prefixes(messages, prefixes))
    encoded = tokenizer.encode_parts(parts)
    before, _ = tokenizer.framing
    tokens = [] if encoded[0][: len(before)] == before else list(before)
    weights = [0.0] * len(tokens)
    for number, part in enumerate(encoded):
        tokens += part
        learnt = _answer_length(part, tokenizer.end_tokens) if number % 2 else 0
        weights += [1.0] * learnt + [0.0] * (len(part) - learnt)
    return Example(tuple(tokens), tuple(weights))


def _steps(texts: Sequence[str]) -> list[str]:
    """Return what each text adds to the one before."""
    steps, before = [], ""
    for text in texts:
        if not text.startswith(before):
            raise UnsupportedError(
                "the chat template writes a message otherwise once others follow it",
                remedy="Give one answer a conversation, or a prompt and its completion",
            )
        steps.append(text.removeprefix(before))
        before = text
    return steps


def _answer_length(tokens: Sequence[int], ends: frozenset[int]) -> int:
    """Return how many tokens of an answer count: what a template writes after its end is not the model's."""
    last = [index for index, token in enumerate(tokens) if token in ends][-1:]
    return last[0] + 1 if last else len(tokens)
