"""Chooses the GGUF type of a metadata value to be written."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from studio.errors import SaveError
from studio.formats.gguf_values import NUMBER_DTYPES, ValueType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.contracts import MetadataValue

MetadataToWrite: TypeAlias = "MetadataValue | np.generic"
"""A value to write; `pack_metadata` tells which GGUF type it gets."""

TYPES_BY_DTYPE: dict[np.dtype[Any], ValueType] = {
    dtype: ValueType(kind) for kind, dtype in NUMBER_DTYPES.items()
}


@dataclass(frozen=True)
class PackedValue:
    """A value with its GGUF type: plain Python, rounded as it will be stored.

    Attributes
    ----------
    type
        Its type.
    item_type
        The type of the items of an array, else None.
    value
        A Python number, truth value or text, or a list of them.
    """

    type: ValueType
    item_type: ValueType | None
    value: Any

    def to_bytes(self) -> bytes:
        """Return it as a file stores it: its type, and its bytes."""
        head = struct.pack("<I", self.type)
        if self.item_type is None:
            return head + _value_bytes(self.type, self.value)
        head += struct.pack("<IQ", self.item_type, len(self.value))
        return head + b"".join(_value_bytes(self.item_type, item) for item in self.value)


def pack_metadata(metadata: Mapping[str, MetadataToWrite], path: Path) -> dict[str, PackedValue]:
    """Choose the GGUF types of metadata values.

    Python's bool, int, float, str and list of str become BOOL, UINT32, FLOAT32, STRING and array of STRING.
    Any other type is said by NumPy: ``np.uint64(1)`` for one number, a 1-D array for an array.

    Raises
    ------
    SaveError
        A value has no GGUF type or does not fit it, an array is empty, or ``general.architecture`` is
        missing. It names the file to be written and the key.
    """
    if not isinstance(metadata.get("general.architecture"), str):
        raise SaveError(
            "the architecture is not known",
            path=path,
            where="general.architecture",
            remedy="Open a base model",
        )
    packed = {}
    for key, value in metadata.items():
        try:
            packed[key] = _pack(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise SaveError(
                f"the value cannot be stored: {error}", path=path, where=key, remedy="Leave this key out"
            ) from None
    return packed


def _pack(value: MetadataToWrite) -> PackedValue:
    if isinstance(value, str):
        return PackedValue(ValueType.STRING, None, str(value))
    if isinstance(value, list):
        if not value or not all(isinstance(item, str) for item in value):
            raise TypeError("a list must hold texts; give numbers as a NumPy array")
        return PackedValue(ValueType.ARRAY, ValueType.STRING, list(value))
    if isinstance(value, np.ndarray):
        if value.ndim != 1 or not value.size:
            raise TypeError(f"an array of shape {value.shape}")
        return PackedValue(ValueType.ARRAY, _type_of(value.dtype), value.tolist())
    if isinstance(value, np.generic):  # before float, which np.float64 is as well
        return PackedValue(_type_of(value.dtype), None, value.item())
    if isinstance(value, bool):
        return PackedValue(ValueType.BOOL, None, value)
    if isinstance(value, int):
        return PackedValue(ValueType.UINT32, None, int(np.array(value, np.uint32)))
    if isinstance(value, float):
        return PackedValue(ValueType.FLOAT32, None, float(np.float32(value)))
    raise TypeError(f"values of type {type(value).__name__} have no place in GGUF")


def _value_bytes(kind: ValueType, value: Any) -> bytes:
    if kind is ValueType.STRING:
        text = str(value).encode()
        return struct.pack("<Q", len(text)) + text
    return np.array(value, NUMBER_DTYPES[kind]).tobytes()


def _type_of(dtype: np.dtype[Any]) -> ValueType:
    kind = TYPES_BY_DTYPE.get(dtype.newbyteorder("<"))
    if kind is None:
        raise TypeError(f"values of type {dtype} have no place in GGUF")
    return kind
