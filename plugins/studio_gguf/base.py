"""Opens GGUF models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.api import FormatError, open_gguf
from studio_gguf.keys import Kind, is_adapter, kind_of

if TYPE_CHECKING:
    from pathlib import Path

    from studio.api import BaseModel


@dataclass(frozen=True)
class GgufBaseOptions:
    """There is nothing to choose."""


class GgufBaseLoader:
    """Opens base models in GGUF: header and index at once, tensors on request."""

    name = "GGUF"
    Options = GgufBaseOptions

    def recognises(self, path: Path) -> bool:
        """Say whether it is a GGUF model. A damaged file counts, so that opening it tells why."""
        return kind_of(path) in (Kind.MODEL, Kind.DAMAGED)

    def load(self, path: Path, options: GgufBaseOptions) -> BaseModel:
        """Open it, and its other files where it has several. Raises `FormatError` for a damaged one."""
        model = open_gguf(path)
        if is_adapter(model):
            model.close()
            raise FormatError(
                "this is an adapter, not a model", path=path, remedy="Open its base, then add the adapter"
            )
        return model
