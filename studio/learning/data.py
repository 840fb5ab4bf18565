"""Files to learn from, read as examples: plain text, texts, prompts with completions, and conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

from studio.contracts import Example, never
from studio.errors import CancelledError, FormatError, StudioError
from studio.learning.chats import chat_example
from studio.learning.records import KINDS, Record, decode_text, holds_records, read_file, records
from studio.learning.sequences import SHORTEST, fitted, trimmed, windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from studio.contracts import Cancelled
    from studio.engine.tokenizer import Tokenizer

MAX_LENGTH = 512
"""How many tokens a sequence has at most, unless said otherwise."""


@dataclass(frozen=True)
class Examples(Sequence[Example]):
    """What a file gives to learn from: a sequence of examples, in the file's order.

    Attributes
    ----------
    items
        The examples.
    shortened
        How many of them lost tokens to fit the length.
    left_out
        How many others had no token to predict.
    """

    items: tuple[Example, ...]
    shortened: int = 0
    left_out: int = 0

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        """Return one example, or several."""
        return self.items[index]

    @cached_property
    def tokens(self) -> int:
        """How many tokens are read."""
        return sum(len(example.tokens) for example in self.items)

    @cached_property
    def predicted(self) -> int:
        """How many of them are predicted."""
        return sum(1 for example in self.items for weight in example.weights[1:] if weight)

    def __str__(self) -> str:
        """Say what was read, in one line."""
        what = "example" if len(self) == 1 else "examples"
        said = f"{len(self):,} {what}, {self.tokens:,} tokens, {self.predicted:,} of them predicted"
        if self.shortened:
            said += f"; {self.shortened:,} shortened"
        if self.left_out:
            said += f"; {self.left_out:,} left out with nothing to predict"
        return said


def read_examples(
    path: str | Path,
    tokenizer: Tokenizer,
    *,
    max_length: int = MAX_LENGTH,
    pack: bool = False,
    cancelled: Cancelled = never,
) -> Examples:
    """Read a file to learn from.

    Parameters
    ----------
    path
        JSON lines (`.jsonl`, or whatever begins with such a line), each with ``messages``, or ``prompt`` and
        ``completion``, or ``text``. Anything else is one plain text.
    tokenizer
        Of the model that learns.
    max_length
        How many tokens an example has at most. Texts are cut into as many examples as they need; other
        examples are shortened as `studio.learning.sequences.fitted` does.
    pack
        Whether the texts of JSON lines follow one another in examples of the full length, each ended by EOS,
        instead of one to an example.
    cancelled
        Asked at every line.

    Raises
    ------
    FormatError
        The file is damaged, too large, or holds nothing to learn; it, the line and the key are named.
    UnsupportedError
        It holds conversations, and the model's chat template does not do for them.
    CancelledError
        Once cancelled.
    """
    if max_length < SHORTEST:
        raise StudioError(f"examples of {max_length} tokens are too short", remedy=f"Take {SHORTEST} or more")
    path = Path(path)
    data = read_file(path)
    reader = _Reader(tokenizer, max_length, pack)
    if holds_records(path, data):
        for record in records(path, data):
            if cancelled():
                raise CancelledError
            reader.add(record)
    else:
        reader.add_text(decode_text(path, data), [])
    examples = reader.finish()
    if not examples:
        raise FormatError("there is nothing to learn in it", path=path, remedy="Look at its lines")
    return examples


class _Reader:
    """Collects examples from texts and records."""

    def __init__(self, tokenizer: Tokenizer, max_length: int, pack: bool) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._pack = pack
        self._before, self._after = tokenizer.framing
        self._end = [] if tokenizer.vocabulary.eos is None else [tokenizer.vocabulary.eos]
        self._items: list[Example] = []
        self._stream: list[int] = []
        self._shortened = self._left_out = 0

    def add(self, record: Record) -> None:
        """Take one record."""
        if "messages" in record.fields:
            self._add(self._chat(record))
        elif "prompt" in record.fields or "completion" in record.fields:
            prompt, completion = record.text("prompt"), record.text("completion")
            self._add(completion_example(prompt, completion, self._tokenizer))
        elif "text" in record.fields:
            self.add_text(record.text("text"), self._end, pack=self._pack)
        else:
            raise record.error(
                f"has none of the keys {', '.join(KINDS)}",
                remedy="Give messages, or prompt and completion, or text",
            )

    def add_text(self, text: str, end: list[int], *, pack: bool = False) -> None:
        """Take a text that is predicted from its beginning to its end."""
        tokens = self._tokenizer.encode(text, add_special=False)
        tokens += end or self._after
        if pack:
            self._stream += tokens
        else:
            self._take(windows(tokens, self._max_length, self._before))

    def finish(self) -> Examples:
        """Return all that was taken."""
        if self._stream:
            self._take(windows(self._stream, self._max_length, self._before))
        return Examples(tuple(self._items), self._shortened, self._left_out)

    def _take(self, found: Iterator[Example]) -> None:
        before = len(self._items)
        self._items += found
        self._left_out += len(self._items) == before

    def _add(self, example: Example) -> None:
        """Take an example at the length that it may have."""
        whole = trimmed(example)
        shorter = fitted(whole, self._max_length, len(self._before))
        if shorter.weight:
            self._items.append(shorter)
            self._shortened += len(whole.tokens) > self._max_length
        else:
            self._left_out += 1

    def _chat(self, record: Record) -> Example:
        messages = record.messages()
        try:
            return chat_example(messages, self._tokenizer)
        except StudioError as error:
            record.check_contents()  # some templates take more than texts; where one does not, that is why
            where = f"line {record.line}: messages"
            message = (
                f"the chat template {error.message}" if isinstance(error, FormatError) else error.message
            )
            raise type(error)(message, path=record.path, where=where, remedy=error.remedy) from error


def completion_example(prompt: str, completion: str, tokenizer: Tokenizer) -> Example:
    """Mark a completion, ended by EOS, after the prompt as the model is given it."""
    before, _ = tokenizer.framing
    read, learnt = tokenizer.encode_parts([prompt, completion])
    end = tokenizer.vocabulary.eos
    if learnt and learnt[-1] not in tokenizer.end_tokens and end is not None:
        learnt.append(end)
    return Example.of((*before, *read, *learnt), len(before) + len(read))
