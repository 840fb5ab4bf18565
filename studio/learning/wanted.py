"""What a blend is wanted to write, as a user says it: a text, or the answer to a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.contracts import Example
from studio.learning.chats import ANSWERING, chat_example
from studio.learning.data import completion_example

if TYPE_CHECKING:
    from studio.engine.tokenizer import Tokenizer


@dataclass(frozen=True)
class Wanted:
    """A text that a blend is to predict.

    Attributes
    ----------
    text
        What is wanted.
    prompt
        What it comes after; that is only read.
    chat
        Whether the two are a user's message and its answer, put through the model's chat template.
    """

    text: str = ""
    prompt: str = ""
    chat: bool = False

    def example(self, tokenizer: Tokenizer) -> Example:
        """Return it as an example to measure; an answer counts with the end of its turn.

        Raises
        ------
        UnsupportedError
            It is a chat, and the model has no template for it.
        """
        if self.chat:
            turns = [{"role": "user", "content": self.prompt}, {"role": ANSWERING, "content": self.text}]
            return chat_example(turns, tokenizer)
        if self.prompt:
            return completion_example(self.prompt, self.text, tokenizer)
        return Example.of(tokenizer.encode(self.text))
