"""A GGUF model that lies in several files, as llama.cpp's gguf-split writes them, opened as one.

The names end in ``-00001-of-0000N.gguf``; the first file holds the metadata, and each says which of how many
it is.
https://github.com/ggml-org/llama.cpp/blob/master/tools/gguf-split/gguf-split.cpp
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from studio.errors import FormatError
from studio.formats.gguf_file import GgufFile, most_stored_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from studio.contracts import FloatArray, MetadataValue, TensorInfo

NUMBER = "split.no"
COUNT = "split.count"
TENSOR_COUNT = "split.tensors.count"
SAME_EVERYWHERE = (COUNT, TENSOR_COUNT)
SAME_WHERE_PRESENT = ("general.architecture", "general.name")

NAME = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
MIXED_UP = "Put the files of one model, by the names that they were made with, in a folder of their own"


class ShardedGguf:
    """The shards of one model, all open: satisfies `BaseModel`, as a `GgufFile` does.

    Attributes
    ----------
    path
        The first shard, which is what llama.cpp is given.
    metadata
        That of the first shard, without what belongs to the splitting.
    tensors
        The tensor indices of all shards, one after the other.
    """

    def __init__(self, prefix: str, shards: Sequence[GgufFile]) -> None:
        first = shards[0]
        self.path = first.path
        self.metadata: Mapping[str, MetadataValue] = MappingProxyType(
            {key: value for key, value in first.metadata.items() if key not in (NUMBER, COUNT, TENSOR_COUNT)}
        )
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {name: info for shard in shards for name, info in shard.tensors.items()}
        )
        self._prefix = prefix
        self._shards = tuple(shards)
        self._shard_of = {name: shard for shard in shards for name in shard.tensors}

    @property
    def files(self) -> tuple[Path, ...]:
        """All shards, the first one first."""
        return tuple(shard.path for shard in self._shards)

    @property
    def name(self) -> str:
        """``general.name``, or what the names of the files begin with."""
        name = self.metadata.get("general.name")
        return name if isinstance(name, str) and name.strip() else self._prefix

    @property
    def architecture(self) -> str:
        """The value of ``general.architecture``."""
        return self._shards[0].architecture

    @property
    def file_type(self) -> str:
        """The storage type that takes the most bytes; empty for a model without tensors."""
        return most_stored_type(self.tensors)

    @property
    def file_size(self) -> int:
        """Size of all files in bytes, when they were opened."""
        return sum(shard.file_size for shard in self._shards)

    def raw(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return one tensor as stored, as `GgufFile.raw` does."""
        return self._shard(name).raw(name)

    def raw_rows(self, name: str, rows: slice) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return some rows of one tensor as stored, as `GgufFile.raw_rows` does."""
        return self._shard(name).raw_rows(name, rows)

    def raw_metadata(self, key: str) -> bytes:
        """Return a metadata value of the first shard as stored, as `GgufFile.raw_metadata` does."""
        return self._shards[0].raw_metadata(key)

    def dense(self, name: str) -> FloatArray:
        """Return one tensor as float32, as `GgufFile.dense` does."""
        return self._shard(name).dense(name)

    def close(self) -> None:
        """Let go of all files."""
        for shard in self._shards:
            shard.close()

    def _shard(self, name: str) -> GgufFile:
        return self._shard_of.get(name, self._shards[0])  # which then says that there is no such tensor


def open_gguf(path: Path) -> GgufFile | ShardedGguf:
    """Open a model: its file or, where that is one of several, all of them. Any of them will do.

    Raises
    ------
    FormatError
        As `GgufFile.open` does, and when a shard is missing or the shards do not belong together.
    """
    with ExitStack() as stack:
        opened = GgufFile.open_part(path)
        stack.callback(opened.close)
        count = opened.metadata.get(COUNT, 0)
        if not isinstance(count, int):
            raise FormatError(f"{count!r} is no number of files", path=path, where=COUNT, remedy=MIXED_UP)
        if count < 2:  # joined files keep the key with a 0
            opened.check_architecture()
            stack.pop_all()
            return opened
        prefix, paths = _paths(opened, count)
        shards = []
        for number, shard_path in enumerate(paths):
            shard = opened if shard_path == path else _open_shard(shard_path, number, count)
            stack.callback(shard.close)
            shards.append(shard)
        shards[0].check_architecture()
        _check_together(shards)
        stack.pop_all()
        return ShardedGguf(prefix, shards)


def _paths(opened: GgufFile, count: int) -> tuple[str, list[Path]]:
    """Return what the names of all shards begin with, and the shards, by the name of any of them."""
    path = opened.path
    found = NAME.fullmatch(path.name)
    if found is None:
        raise FormatError(
            f"this is one of {count} files of a model, and its name does not tell the others'",
            path=path,
            where=COUNT,
            remedy=f"Give the files names that end in -00001-of-{count:05}.gguf and so on",
        )
    if int(found["count"]) != count or not 1 <= int(found["number"]) <= count:
        raise FormatError(
            f"its name says that it is file {int(found['number'])} of {int(found['count'])}, "
            f"and the file itself that it is one of {count}",
            path=path,
            where=COUNT,
            remedy=MIXED_UP,
        )
    prefix = found["prefix"]
    return prefix, [
        path.with_name(f"{prefix}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)
    ]


def _open_shard(path: Path, number: int, count: int) -> GgufFile:
    if not path.exists():
        raise FormatError(
            f"file {number + 1} of the {count} of this model is missing",
            path=path,
            remedy="Put all of them in one folder",
        )
    return GgufFile.open_part(path)


def _check_together(shards: Sequence[GgufFile]) -> None:
    """Refuse shards that are not those of one model, each in its place."""
    first = shards[0]
    owners: dict[str, GgufFile] = {}
    for number, shard in enumerate(shards):
        _check_value(shard, NUMBER, number)
        for key in SAME_EVERYWHERE:
            _check_value(shard, key, first.metadata.get(key))
        for key in SAME_WHERE_PRESENT:
            if key in shard.metadata:
                _check_value(shard, key, first.metadata.get(key))
        for name in shard.tensors:
            if name in owners:
                raise FormatError(
                    f"the tensor is in {owners[name].path.name} as well",
                    path=shard.path,
                    where=name,
                    remedy=MIXED_UP,
                )
            owners[name] = shard
    announced = first.metadata.get(TENSOR_COUNT)
    if announced != len(owners):
        raise FormatError(
            f"the files together hold {len(owners)} tensors, and are to hold {announced}",
            path=first.path,
            where=TENSOR_COUNT,
            remedy="Copy or download all of them again",
        )


def _check_value(shard: GgufFile, key: str, wanted: MetadataValue | None) -> None:
    found = shard.metadata.get(key)
    if type(found) is not type(wanted) or found != wanted:
        raise FormatError(
            f"it is {found!r} here, and in this place {wanted!r} is wanted: the file is of another model, "
            "or has another's name",
            path=shard.path,
            where=key,
            remedy=MIXED_UP,
        )
