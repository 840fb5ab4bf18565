"""Reading a model's hyperparameters from metadata, and holding its tensors against them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from studio.errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import BaseModel, MetadataValue


class Size(NamedTuple):
    """One expected dimension of a tensor, and the metadata key that says so."""

    value: int
    key: str


@dataclass(frozen=True)
class Hyperparameters:
    """The metadata of one architecture; every reader raises `FormatError` naming the key at fault."""

    base: BaseModel

    def key(self, name: str) -> str:
        """Return the whole key: ``block_count`` of a llama is ``llama.block_count``."""
        return f"{self.base.architecture}.{name}"

    def value(self, name: str) -> MetadataValue | None:
        """Return the value as it stands, or None where it is missing."""
        return self.base.metadata.get(self.key(name))

    def count(self, name: str, default: int | None = None, *, most: int = 2**31) -> int:
        """Read a whole number from 1 to `most`; `default` stands for a missing key, None requires it."""
        value = self._present(name, default)
        if isinstance(value, list) or hasattr(value, "shape"):
            raise self.unsupported(name, "a value for each layer")
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self.fault(name, f"{value!r} is no whole number from 1 to {most}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Read a finite number above 0; `default` stands for a missing key, None requires it."""
        value = self._present(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fault(name, f"{value!r} is no number")
        if not (math.isfinite(value) and value > 0):
            raise self.fault(name, f"{value} is not a finite number above 0")
        return float(value)

    def fault(self, name: str, message: str) -> FormatError:
        """Make the error for a key whose value cannot be right."""
        return FormatError(
            message, path=self.base.path, where=self.key(name), remedy="The file is damaged: get it again"
        )

    def unsupported(self, name: str, what: str) -> UnsupportedError:
        """Make the error for a sound value that the engine has no operators for."""
        return UnsupportedError(f"the engine cannot run {what}", path=self.base.path, where=self.key(name))

    def check_block_count(self, count: int) -> None:
        """Refuse a block count that is not the number of blocks in the tensor index."""
        blocks = {name.split(".")[1] for name in self.base.tensors if name.startswith("blk.")}
        if len(blocks) != count:
            raise self.fault(
                "block_count", f"it says {count}, but the file has the tensors of {len(blocks)} blocks"
            )

    def check_tensors(
        self, required: Mapping[str, tuple[Size, ...]], optional: Mapping[str, tuple[Size, ...]]
    ) -> None:
        """Hold the tensor index against the shapes that the hyperparameters call for.

        Raises
        ------
        FormatError
            For a missing tensor, or one of another shape: it names the tensor and the key.
        UnsupportedError
            For a tensor that the architecture would not use: its outputs would be silently wrong.
        """
        path = self.base.path
        for name, sizes in {**optional, **required}.items():
            info = self.base.tensors.get(name)
            if info is None:
                if name in required:
                    raise FormatError(
                        "the tensor is missing", path=path, where=name, remedy="Get the file again"
                    )
                continue
            if len(info.shape) != len(sizes):
                raise FormatError(
                    f"it has {len(info.shape)} dimensions, not {len(sizes)}", path=path, where=name
                )
            for actual, size in zip(info.shape, sizes, strict=True):
                if actual != size.value:
                    raise FormatError(
                        f"it says {size.value}, but {name} has the shape {info.shape}",
                        path=path,
                        where=size.key,
                        remedy="The file is damaged: get it again",
                    )
        for name in self.base.tensors:
            if name not in required and name not in optional:
                raise UnsupportedError(
                    f"the engine's {self.base.architecture} has no use for this tensor", path=path, where=name
                )

    def _present(self, name: str, default: Any) -> Any:
        value = self.value(name)
        if value is not None:
            return value
        if default is None:
            raise FormatError(
                "the key is missing",
                path=self.base.path,
                where=self.key(name),
                remedy="The file is damaged: get it again",
            )
        return default
