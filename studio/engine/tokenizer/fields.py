"""Typed, checked access to the metadata of a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from studio.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.contracts import MetadataValue

REMEDY = "Convert the model again or download it anew"


class Fields:
    """Reads metadata values by key and refuses those of the wrong type, length or range.

    Parameters
    ----------
    metadata
        All metadata of the file, by key.
    path
        The file, for error messages.
    """

    def __init__(self, metadata: Mapping[str, MetadataValue], path: Path | None = None) -> None:
        self._metadata = metadata
        self.path = path

    def __contains__(self, key: str) -> bool:
        """Say whether the file has this key."""
        return key in self._metadata

    def error(self, key: str, message: str) -> FormatError:
        """Make the error that says what is wrong with a key."""
        return FormatError(message, path=self.path, where=key, remedy=REMEDY)

    def text(self, key: str) -> str | None:
        """Read a string, None where it is absent."""
        value = self._metadata.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, f"should be text, not {type(value).__name__}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Read a boolean."""
        value = self._metadata.get(key, default)
        if not isinstance(value, bool | np.bool_):
            raise self.error(key, f"should be true or false, not {type(value).__name__}")
        return bool(value)

    def token_id(self, key: str, vocabulary_size: int, default: int | None = None) -> int | None:
        """Read the id of a token; where it is absent, the default if there is such a token."""
        value = self._metadata.get(key)
        if value is None:
            return default if default is not None and default < vocabulary_size else None
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise self.error(key, f"should be a token id, not {type(value).__name__}")
        if not 0 <= value < vocabulary_size:
            raise self.error(key, f"is {value}, but the vocabulary has {vocabulary_size} tokens")
        return int(value)

    def texts(self, key: str) -> list[str]:
        """Read an array of strings that has to be there."""
        value = self._metadata.get(key)
        if value is None:
            raise self.error(key, "is missing")
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "should be an array of strings")
        return value

    def numbers(self, key: str, length: int) -> np.ndarray[Any, np.dtype[Any]] | None:
        """Read an array of `length` numbers, None where it is absent."""
        value = self._metadata.get(key)
        if value is None:
            return None
        if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "iuf":
            raise self.error(key, "should be an array of numbers")
        if len(value) != length:
            raise self.error(key, f"has {len(value)} values for {length} tokens")
        return value
