"""Tokens cut into sequences of a bounded length, each token predicted once; examples shortened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.contracts import Example

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORTEST = 2
"""The least length of a sequence: one token to read, and one to predict."""

PROMPT_SHARE = 4
"""A prompt that is too long keeps at least one part in so many of the length."""


def windows(tokens: Sequence[int], max_length: int, before: Sequence[int] = ()) -> Iterator[Example]:
    """Cut a stream of tokens into sequences, the last of which may be shorter.

    With BOS, each sequence begins with it. Without, each begins with the last token of the one before. So
    every token is predicted once; only the first of a stream without BOS is not, since nothing comes before.

    Parameters
    ----------
    tokens
        The stream.
    max_length
        In tokens, BOS included; at least `SHORTEST`.
    before
        BOS, where the model asks for it.
    """
    if before:
        step = max_length - len(before)
        for first in range(0, len(tokens), step):
            yield Example.of((*before, *tokens[first : first + step]), len(before))
    else:
        for first in range(0, len(tokens) - 1, max_length - 1):
            yield Example.of(tokens[first : first + max_length])


def trimmed(example: Example) -> Example:
    """Leave out what follows the last token that is predicted: nobody asks what comes of it."""
    predicted = [index for index, weight in enumerate(example.weights) if index and weight]
    end = predicted[-1] + 1 if predicted else 0
    return Example(example.tokens[:end], example.weights[:end])


def fitted(example: Example, max_length: int, kept: int = 0) -> Example:
    """Shorten an example to a length; the answer stays as far as it can.

    What stands before the first token that is predicted loses its beginning, but keeps a quarter of the
    length. Where that does not do, the example loses its end.

    Parameters
    ----------
    example
        Of any length.
    max_length
        In tokens; at least `SHORTEST`.
    kept
        How many tokens at the beginning always stay, such as BOS.
    """
    length = len(example.tokens)
    if length <= max_length:
        return example
    first = next((index for index, weight in enumerate(example.weights) if index and weight), length)
    prompt = max(0, first - kept)
    stays = min(prompt, max(max_length // PROMPT_SHARE, max_length - kept - (length - first)))
    chosen = [*range(first - prompt), *range(first - stays, length)][:max_length]
    return Example(
        tuple(example.tokens[index] for index in chosen), tuple(example.weights[index] for index in chosen)
    )
