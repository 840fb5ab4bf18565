"""Chat templates: the model's own program that turns messages into a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from studio.engine.tokenizer.chat_process import ANSWER_LIMIT_S, ChatProcess
from studio.errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KEY = "tokenizer.chat_template"
SOURCE_LIMIT = 2**18
_REMEDY = "Use a plain prompt"


class ChatTemplate:
    """A Jinja template by a stranger, run in a sandbox inside a process with bounded time, memory and output.

    Parameters
    ----------
    source
        The template.
    bos_token, eos_token
        The texts that it may write for the first and the last token.
    path
        The file it comes from, for error messages.
    """

    def __init__(
        self, source: str, *, bos_token: str = "", eos_token: str = "", path: Path | None = None
    ) -> None:
        self._source = source
        self._variables = {"bos_token": bos_token, "eos_token": eos_token, "tools": None}
        self._path = path
        self._process = ChatProcess()

    def render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str:
        """Write the messages as a prompt; as `render_prefixes` in all else.

        Parameters
        ----------
        messages
            Each has a ``role``, its ``content``, and whatever else the template reads; JSON can express it.
        add_generation_prompt
            End with the opening of the assistant's next message.
        """
        (text,) = self.render_prefixes(messages, [(len(messages), add_generation_prompt)])
        return text

    def render_prefixes(
        self, messages: Sequence[Mapping[str, Any]], prefixes: Sequence[tuple[int, bool]]
    ) -> list[str]:
        """Write several beginnings of a conversation as prompts, in one request to the process.

        Parameters
        ----------
        messages
            The conversation.
        prefixes
            Of each, how many messages it has, and whether it ends with the opening of the assistant's next.

        Raises
        ------
        UnsupportedError
            The template refuses these messages, such as two of one role in a row.
        FormatError
            The template is faulty, or ran past its limits.
        """
        if len(self._source) > SOURCE_LIMIT:
            raise self._fault(f"is {len(self._source)} characters long, more than {SOURCE_LIMIT}")
        answer = self._process.ask(
            {
                "template": self._source,
                "variables": self._variables,
                "messages": [dict(message) for message in messages],
                "prefixes": list(prefixes),
            }
        )
        if answer is None:
            raise self._fault(f"crashed, or ran for more than {ANSWER_LIMIT_S:g} s")
        if "texts" in answer:
            texts: list[str] = answer["texts"]
            return texts
        if answer["error"] == "refused":
            raise UnsupportedError(
                f"the chat template refuses these messages: {answer['message']}",
                path=self._path,
                where=KEY,
                remedy=_REMEDY,
            )
        verb = "ran past a limit" if answer["error"] == "limit" else "is faulty"
        raise self._fault(f"{verb}: {answer['message']}")

    def _fault(self, message: str) -> FormatError:
        return FormatError(message, path=self._path, where=KEY, remedy=_REMEDY)
