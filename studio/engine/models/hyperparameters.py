"""Reading a model's hyperparameters from metadata, and holding its tensors against them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from studio.engine.model import EMBEDDING
from studio.errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from studio.contracts import BaseModel, MetadataValue
    from studio.engine.model import LinearGroup


class Size(NamedTuple):
    """One expected dimension of a tensor, and the metadata key that says so."""

    value: int
    key: str


@dataclass(frozen=True)
class Heads:
    """How the width of attention is cut into heads.

    Attributes
    ----------
    count
        How many heads the queries have.
    groups
        How many heads the keys and the values have: count / groups neighbouring queries share one.
    size
        How many rows one head has.
    rotated
        How many of them RoPE turns.
    """

    count: int
    groups: int
    size: int
    rotated: int


class Sizes(NamedTuple):
    """The dimensions that the tensors of a transformer have."""

    vocabulary: Size
    width: Size
    queries: Size
    keys: Size
    heads: Size
    groups: Size
    head: Size
    inner: Size
    angles: Size


@dataclass
class ExpectedTensors:
    """The tensors of an architecture by name, with their shapes."""

    required: dict[str, tuple[Size, ...]] = field(default_factory=dict)
    optional: dict[str, tuple[Size, ...]] = field(default_factory=dict)

    def require(self, name: str, *shape: Size) -> None:
        """Name a tensor that must be there."""
        self.required[name] = shape

    def allow(self, name: str, *shape: Size) -> None:
        """Name a tensor that may be there."""
        self.optional[name] = shape

    def require_linear(self, group: LinearGroup, outputs: tuple[Size, ...], inputs: Size) -> None:
        """Name the weights ``[out, in]`` of a group, and the biases that they may have."""
        for name, out in zip(group, outputs, strict=True):
            self.require(name, out, inputs)
            self.allow(f"{name.removesuffix('.weight')}.bias", out)


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

    def optional_number(self, name: str) -> float | None:
        """Read a finite number above 0; None where the key is missing."""
        return None if self.value(name) is None else self.number(name)

    def window(self, default: int | None = None) -> int | None:
        """Read how many positions a query sees in a windowed layer; None where there are no windows."""
        if self.value("attention.sliding_window") == 0:
            return None
        if self.value("attention.sliding_window") is None:
            return default
        return self.count("attention.sliding_window")

    def windows(self, layers: int, period: int, default: int | None = None) -> tuple[int | None, ...]:
        """Read the window of each layer: one layer in `period` has none, or as the file says otherwise."""
        window = self.window(default)
        pattern = self.value("attention.sliding_window_pattern")
        if isinstance(pattern, list | np.ndarray):
            windowed = [bool(value) for value in pattern]
            if len(windowed) < layers:
                raise self.fault(
                    "attention.sliding_window_pattern", f"it has {len(windowed)} values for {layers} layers"
                )
        else:
            period = self.count("attention.sliding_window_pattern", period)
            windowed = [layer % period < period - 1 for layer in range(layers)]
        return tuple(window if windowed[layer] else None for layer in range(layers))

    def fault(self, name: str, message: str) -> FormatError:
        """Make the error for a key whose value cannot be right."""
        return FormatError(
            message, path=self.base.path, where=self.key(name), remedy="The file is damaged: get it again"
        )

    def unsupported(self, name: str, what: str) -> UnsupportedError:
        """Make the error for a sound value that the engine has no operators for."""
        return UnsupportedError(f"the engine cannot run {what}", path=self.base.path, where=self.key(name))

    def blocks(self) -> int:
        """Read the block count, which must be the number of blocks in the tensor index."""
        count = self.count("block_count")
        blocks = {name.split(".")[1] for name in self.base.tensors if name.startswith("blk.")}
        if len(blocks) != count:
            raise self.fault(
                "block_count", f"it says {count}, but the file has the tensors of {len(blocks)} blocks"
            )
        return count

    def heads(self) -> Heads:
        """Read how attention is cut into heads."""
        count = self.count("attention.head_count")
        groups = self.count("attention.head_count_kv", count)
        if count % groups:
            raise self.fault("attention.head_count_kv", f"{count} heads do not share {groups} keys evenly")
        width = self.count("embedding_length")
        if self.value("attention.key_length") is None and width % count:
            raise self.fault("attention.head_count", f"a width of {width} does not divide into {count} heads")
        size = self.count("attention.key_length", width // count)
        if self.count("attention.value_length", size) != size:
            raise self.unsupported("attention.value_length", "values of another length than the keys")
        rotated = self.count("rope.dimension_count", size)
        if rotated > size or rotated % 2:
            raise self.fault(
                "rope.dimension_count", f"{rotated} is no even number up to the head size {size}"
            )
        return Heads(count, groups, size, rotated)

    def sizes(self, heads: Heads) -> Sizes:
        """Read the dimensions that the tensors must have."""
        size_key = "attention.key_length"
        if self.value(size_key) is None:
            size_key = "attention.head_count"
        if self.value("vocab_size") is not None:
            vocabulary = Size(self.count("vocab_size"), self.key("vocab_size"))
        else:
            tensors = self.base.tensors
            vocabulary = Size(tensors[EMBEDDING].shape[0] if EMBEDDING in tensors else 0, EMBEDDING)
        return Sizes(
            vocabulary=vocabulary,
            width=Size(self.count("embedding_length"), self.key("embedding_length")),
            queries=Size(heads.count * heads.size, self.key(size_key)),
            keys=Size(heads.groups * heads.size, self.key("attention.head_count_kv")),
            heads=Size(heads.count, self.key("attention.head_count")),
            groups=Size(heads.groups, self.key("attention.head_count_kv")),
            head=Size(heads.size, self.key(size_key)),
            inner=Size(self.count("feed_forward_length"), self.key("feed_forward_length")),
            angles=Size(heads.rotated // 2, self.key("rope.dimension_count")),
        )

    def check_tensors(self, expected: ExpectedTensors) -> None:
        """Hold the tensor index against the shapes that the hyperparameters call for.

        Raises
        ------
        FormatError
            For a missing tensor, or one of another shape: it names the tensor and the key.
        UnsupportedError
            For a tensor that the architecture would not use: its outputs would be silently wrong.
        """
        path = self.base.path
        for name, sizes in {**expected.optional, **expected.required}.items():
            info = self.base.tensors.get(name)
            if info is None:
                if name in expected.required:
                    raise FormatError(
                        "the tensor is missing", path=path, where=name, remedy="Get the file again"
                    )
                continue
            # GGUF files may leave the last dimensions away that are 1; in NumPy's order they are the first.
            shape = (1,) * (len(sizes) - len(info.shape)) + info.shape
            if len(shape) != len(sizes):
                raise FormatError(
                    f"it has {len(info.shape)} dimensions, not {len(sizes)}", path=path, where=name
                )
            for actual, size in zip(shape, sizes, strict=True):
                if actual != size.value:
                    raise FormatError(
                        f"it says {size.value}, but {name} has the shape {info.shape}",
                        path=path,
                        where=size.key,
                        remedy="The file is damaged: get it again",
                    )
        for name in self.base.tensors:
            if name not in expected.required and name not in expected.optional:
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
