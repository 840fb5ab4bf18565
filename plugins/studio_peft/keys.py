"""The tensor keys of PEFT files, in all the forms they come in, sorted into pairs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from studio.api import FormatError, UnsupportedError, listing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

PREFIX = "base_model.model."

# module, then lora_A or lora_embedding_A, perhaps the adapter's name, perhaps .weight
_FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<half>[AB])(?:\.(?!weight$)[^.]+)?(?:\.weight)?"
)
_MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_magnitude_vector(?:\.(?!weight$)[^.]+)?(?:\.weight)?")
_BIAS = re.compile(r".+\.(?:lora_[AB](?:\.[^.]+)?\.)?bias")
_COPY = re.compile(r".+\.base_layer\.weight")
_WHOLE = re.compile(r"(?!.*\.lora_).+\.weight")


@dataclass(frozen=True)
class Pair:
    """The halves of one module as the file has them; an embedding's are (r, vocab) and (embd, r).

    Of DoRA there is the magnitude of each row, (out,), besides.
    """

    a: np.ndarray[Any, Any]
    b: np.ndarray[Any, Any]
    is_embedding: bool
    magnitude: np.ndarray[Any, Any] | None = None


@dataclass
class SortedKeys:
    """The content of a file: pairs by module, copies of the base's own weights, and keys nobody knows."""

    pairs: dict[str, Pair] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def sort_keys(tensors: Mapping[str, np.ndarray[Any, Any]], path: Path) -> SortedKeys:
    """Sort tensors into pairs, by module without PEFT's prefix.

    Raises
    ------
    FormatError
        Half a pair is missing, or stands there twice.
    UnsupportedError
        There is more in the file than low-rank pairs.
    """
    result = SortedKeys()
    halves: dict[tuple[str, bool], dict[str, np.ndarray[Any, Any]]] = {}
    magnitudes: dict[str, np.ndarray[Any, Any]] = {}
    whole: list[str] = []
    for key, tensor in tensors.items():
        if match := _MAGNITUDE.fullmatch(key):
            magnitudes[match["module"].removeprefix(PREFIX)] = tensor
            continue
        if _BIAS.fullmatch(key):
            raise _refusal("the file holds trained biases", path, key)
        if match := _FACTOR.fullmatch(key):
            module = match["module"].removeprefix(PREFIX)
            pair = halves.setdefault((module, match["embedding"] is not None), {})
            if match["half"] in pair:
                raise FormatError(
                    f"the module has {match['half']} twice: the file holds several adapters",
                    path=path,
                    where=key,
                    remedy="Save one adapter a folder",
                )
            pair[match["half"]] = tensor
        elif _COPY.fullmatch(key):
            result.copies.append(key)
        elif _WHOLE.fullmatch(key):
            whole.append(key)
        else:
            result.unknown.append(key)
    if whole:
        raise _refusal(f"the file holds whole weights beside the low-rank ones: {listing(whole, 3)}", path)
    for (module, is_embedding), pair in halves.items():
        if len(pair) < 2:
            missing = "B" if "A" in pair else "A"
            raise FormatError(
                f"half of the pair is missing: {missing}",
                path=path,
                where=module,
                remedy="Copy the file again",
            )
        if module in result.pairs:
            raise FormatError(
                "two pairs for one module", path=path, where=module, remedy="Copy the file again"
            )
        result.pairs[module] = Pair(pair["A"], pair["B"], is_embedding, magnitudes.pop(module, None))
    if magnitudes:
        raise FormatError(
            "a DoRA magnitude without its pair",
            path=path,
            where=min(magnitudes),
            remedy="Copy the file again",
        )
    return result


def _refusal(message: str, path: Path, where: str | None = None) -> UnsupportedError:
    return UnsupportedError(
        f"{message}; as a plain LoRA it would be wrong",
        path=path,
        where=where,
        remedy="Merge it into its base with PEFT and open the merged model",
    )
