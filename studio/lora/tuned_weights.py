"""The weights in a Hugging Face folder under their GGUF names, read one at a time."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from studio.contracts import TensorInfo
from studio.errors import FormatError, MismatchError, UnsupportedError
from studio.formats.safetensors_file import SafetensorsFile
from studio.lora.names import gguf_module, rotated_heads, rows_to_gguf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.contracts import BaseModel, FloatArray


TRANSPOSED = frozenset({"gpt2"})
"""Architectures whose linear weights Hugging Face keeps as ``(in, out)``, in its Conv1D."""


class HuggingFaceWeights:
    """Weights of the same architecture as a GGUF base, out of one or more safetensors files.

    The rows of Q and K are brought into the base's order. Experts that lie one by one are not put together,
    and what the base has no weight for is left out.

    Parameters
    ----------
    folder
        It holds ``*.safetensors``.
    base
        Whose names and row order to use.

    Raises
    ------
    FormatError
        There is no such file in the folder, one is damaged, or two hold the same weight.
    MismatchError
        None of its weights is one of the base's.
    UnsupportedError
        The architecture keeps its weights the other way up.
    """

    def __init__(self, folder: Path, base: BaseModel) -> None:
        if base.architecture in TRANSPOSED:
            raise UnsupportedError(
                f"{base.architecture} folders hold their weights transposed",
                path=folder,
                remedy="Convert the tuned model to GGUF first",
            )
        self.path = folder
        self._base = base
        self._places: dict[str, tuple[SafetensorsFile, str]] = {}
        tensors: dict[str, TensorInfo] = {}
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise FormatError(
                "the folder holds no *.safetensors", path=folder, remedy="Choose a model's folder"
            )
        for file in map(SafetensorsFile, files):
            for key, info in file.tensors.items():
                name = self._name(key, info)
                if name is None:
                    continue
                if name in tensors:
                    raise FormatError("two tensors hold this weight", path=file.path, where=key)
                self._places[name] = file, key
                tensors[name] = TensorInfo(name, info.shape, info.type_name, info.nbytes)
        if not tensors:
            raise MismatchError(
                f"none of its weights is one of {base.name}",
                path=folder,
                remedy="Take the base it was tuned from",
            )
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)

    def _name(self, key: str, info: TensorInfo) -> str | None:
        """Return the base's name for a matrix. Vectors have none: converters change some of them."""
        if not key.endswith(".weight") or len(info.shape) < 2:
            return None
        name = gguf_module(key.removesuffix(".weight"), self._base.architecture)
        return name if name in self._base.tensors else None

    def dense(self, name: str) -> FloatArray:
        """Return one weight as float32, its rows in the base's order. Raises `FormatError`."""
        file, key = self._places[name]
        weight = file.dense(key)
        heads = rotated_heads(name, self._base.architecture, self._base.metadata)
        return weight if heads is None else rows_to_gguf(weight, heads)
