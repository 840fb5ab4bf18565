"""What tokens a model takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from studio.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import Example
    from studio.engine.model import Model


def checked_tokens(tokens: Sequence[int], model: Model) -> list[int]:
    """Return the tokens as plain numbers; raise `EngineError` for those that the model cannot take."""
    ids = [int(token) for token in tokens]
    if not ids:
        raise EngineError("there are no tokens to evaluate", remedy="Give a prompt of at least one token")
    if len(ids) > model.context_length:
        raise EngineError(
            f"{len(ids)} tokens are more than the base's context of {model.context_length}",
            remedy="Shorten the prompt, or evaluate it in windows",
        )
    for position, token in enumerate(ids):
        if not 0 <= token < model.vocabulary_size:
            raise EngineError(
                f"token {token} at position {position} is none of the {model.vocabulary_size} tokens",
                remedy="Use the tokens of this base's own tokenizer",
            )
    return ids


def check_examples(examples: Sequence[Example], model: Model) -> None:
    """Raise `EngineError` for examples that cannot be learnt from."""
    if not examples:
        raise EngineError("there are no examples", remedy="Give one or more")
    for example in examples:
        checked_tokens(example.tokens, model)
        weights = example.weights
        if len(weights) != len(example.tokens) or not min(weights) >= 0 or not 0 < example.weight < math.inf:
            raise EngineError(
                "an example has nothing to predict",
                remedy="Give it two tokens or more, and weights that are not negative",
            )
