"""Tokens to text one by one, for text that is still being written."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class StreamDecoder:
    """Turns tokens into text as they come; a character is given out once all its bytes are there.

    Bytes that can never become UTF-8 come out as U+FFFD.

    Parameters
    ----------
    bytes_of
        Gives the bytes of a token.
    is_boundary
        Says whether a token stands apart from the text, as control tokens do.
    strip_space
        Whether encoding put a space before each stretch of text, which decoding takes off again.
    skip
        Tokens to leave out.
    """

    def __init__(
        self,
        bytes_of: Callable[[int], bytes],
        is_boundary: Callable[[int], bool],
        *,
        strip_space: bool = False,
        skip: frozenset[int] = frozenset(),
    ) -> None:
        self._bytes_of = bytes_of
        self._is_boundary = is_boundary
        self._strip_space = strip_space
        self._skip = skip
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True

    def feed(self, token: int) -> str:
        """Take one token and return the text that it completes, which may be empty."""
        data = self._bytes_of(token)
        if self._is_boundary(token):
            self._at_start = True
            return "" if token in self._skip else self._decoder.decode(data)
        if self._at_start and self._strip_space:
            data = data.removeprefix(b" ")
        self._at_start = False
        return self._decoder.decode(data)

    def finish(self) -> str:
        """Return what is left: U+FFFD for a character whose last bytes never came."""
        return self._decoder.decode(b"", final=True)
