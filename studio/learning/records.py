"""Files of training data, read within bounds: whole texts, or one JSON object a line."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studio.errors import FormatError
from studio.formats.files import open_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_LIMIT = 128 * 2**20
LINE_LIMIT = 4 * 2**20
MESSAGE_LIMIT = 1000

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
MARK = b"\xef\xbb\xbf"
"""What some editors put before UTF-8."""

KINDS = ("messages", "prompt", "text")
"""The keys that say what a record is, the first of which that is there counts."""


@dataclass(frozen=True)
class Record:
    """One line of a file: an object with its place."""

    path: Path
    line: int
    fields: dict[str, Any]

    def error(self, message: str, key: str = "", remedy: str | None = None) -> FormatError:
        """Return the error for what is wrong in it."""
        return _error(self.path, self.line, message, key, remedy)

    def text(self, key: str) -> str:
        """Return the text of a key. Raises `FormatError` where it is missing or no text."""
        value = self.fields.get(key)
        if not isinstance(value, str):
            found = "is missing" if key not in self.fields else f"is no text but {_kind(value)}"
            raise self.error(found, key, "Give it as a JSON string")
        return value

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages of a conversation, each with a role. Raises `FormatError` for others."""
        value = self.fields["messages"]
        if not isinstance(value, list) or not value or len(value) > MESSAGE_LIMIT:
            found = f"{len(value):,} messages" if isinstance(value, list) else _kind(value)
            raise self.error(
                f"is {found}, not a list of 1 to {MESSAGE_LIMIT:,} messages",
                "messages",
                "Give objects with role and content",
            )
        for number, message in enumerate(value):
            key = f"messages[{number}]"
            if not isinstance(message, dict):
                raise self.error(
                    f"is no object but {_kind(message)}", key, "Give an object with role and content"
                )
            if not isinstance(message.get("role"), str):
                raise self.error(
                    "is missing or no text", f"{key}.role", "Name system, user or assistant as the role"
                )
            if "content" not in message:
                raise self.error("is missing", f"{key}.content", "Give what was said as a JSON string")
        return value

    def check_contents(self) -> None:
        """Raise `FormatError` naming the first message whose content is no text, such as a call of a tool."""
        for number, message in enumerate(self.messages()):
            content = message["content"]
            if not isinstance(content, str):
                raise self.error(
                    f"is no text but {_kind(content)}, which the model's chat template does not take",
                    f"messages[{number}].content",
                    "Give it as a JSON string",
                )


def read_file(path: Path) -> bytes:
    """Return a file whole. Raises `FormatError` where it is larger than `FILE_LIMIT` or cannot be read."""
    with open_regular_file(path) as file:
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise FormatError(
            f"it is larger than {FILE_LIMIT // 2**20} MiB", path=path, remedy="Split it, and take a part"
        )
    return data.removeprefix(MARK)


def holds_records(path: Path, data: bytes) -> bool:
    """Say whether a file holds one JSON object a line: by its name, or by its first line."""
    if path.suffix.lower() in JSON_SUFFIXES:
        return True
    first = data.lstrip()[:LINE_LIMIT].split(b"\n", 1)[0]
    if not first.startswith(b"{"):
        return False
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and any(kind in value for kind in KINDS)


def records(path: Path, data: bytes) -> Iterator[Record]:
    """Yield the objects of a file, one a line; empty lines are passed over.

    Raises
    ------
    FormatError
        A line is too long, not UTF-8, or no JSON object; it is named.
    """
    for number, line in enumerate(io.BytesIO(data), start=1):
        if len(line) > LINE_LIMIT:
            raise _error(
                path, number, f"the line is longer than {LINE_LIMIT // 2**20} MiB", remedy="Split it"
            )
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8").rstrip())
        except UnicodeDecodeError as error:
            raise _error(
                path, number, f"not UTF-8 text (byte {error.start})", remedy="Save it as UTF-8"
            ) from None
        except RecursionError:
            raise _error(path, number, "the JSON is nested too deep", remedy="Flatten it") from None
        except ValueError as error:
            at = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else error
            raise _error(
                path, number, f"not JSON: {at}", remedy="Write one JSON object a line, and nothing else"
            ) from None
        if not isinstance(value, dict):
            raise _error(path, number, f"no object but {_kind(value)}", remedy="Write one JSON object a line")
        yield Record(path, number, value)


def decode_text(path: Path, data: bytes) -> str:
    r"""Return a file as text, `\r\n` as `\n`. Raises `FormatError` naming the line that is not UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(
            path, line, f"not UTF-8 text (byte {error.start} of the file)", remedy="Save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n")


def _error(path: Path, line: int, message: str, key: str = "", remedy: str | None = None) -> FormatError:
    where = f"line {line}: {key}" if key else f"line {line}"
    return FormatError(message, path=path, where=where, remedy=remedy)


def _kind(value: object) -> str:
    """Name a JSON value's kind."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
