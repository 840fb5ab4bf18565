"""The tensor types of ggml: their names and how many bytes a row takes."""

from __future__ import annotations

from dataclasses import dataclass

from libgguf import GGML_QUANT_SIZES


@dataclass(frozen=True)
class GgmlType:
    """One storage type of ggml.

    Attributes
    ----------
    number
        The number it has in files.
    name
        The name it has in the field, such as ``Q4_1``.
    block_size
        How many values one block holds; a row is a whole number of blocks.
    block_bytes
        How many bytes one block takes.
    """

    number: int
    name: str
    block_size: int
    block_bytes: int

    def row_bytes(self, width: int) -> int:
        """Return the size in bytes of a row of `width` values."""
        return width // self.block_size * self.block_bytes

    def row_width(self, nbytes: int) -> int:
        """Return how many values a row of `nbytes` bytes holds."""
        return nbytes // self.block_bytes * self.block_size


GGML_TYPES: dict[int, GgmlType] = {
    int(kind): GgmlType(int(kind), str(kind.name), block_size, block_bytes)
    for kind, (block_size, block_bytes) in GGML_QUANT_SIZES.items()
}
"""All types whose size is known, by number."""

GGML_TYPES_BY_NAME: dict[str, GgmlType] = {kind.name: kind for kind in GGML_TYPES.values()}
