"""What the model is asked to continue: a plain text, or a message put through the model's chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studio.engine.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """The text of the prompt, and whether it is one user message of a chat."""

    text: str = ""
    chat: bool = False

    def is_empty(self, tokenizer: Tokenizer) -> bool:
        """Say whether it gives the model nothing to go on; some models take an empty text as a beginning."""
        return not self.text and not self.chat and not tokenizer.encode("")

    def tokens(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Turn the prompt into token ids, with the special tokens the model expects.

        A chat template writes its special tokens itself; a BOS that it leaves out is added where the model
        asks for one.
        """
        if not self.chat:
            return tuple(tokenizer.encode(self.text))
        return tuple(tokenizer.encode_chat([{"role": "user", "content": self.text}]))
