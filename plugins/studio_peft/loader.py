"""Reads a PEFT directory into an `Adapter` with the base's names and row order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from studio.api import (
    FormatError,
    LoraFactors,
    NamedPair,
    Placement,
    StudioError,
    UnsupportedError,
    all_experts,
    fit,
    gguf_module,
    listing,
    one_weight,
    read_safetensors,
)
from studio_peft.config import read_config, read_fields
from studio_peft.experts import is_flat, split_flat
from studio_peft.keys import Pair, sort_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from studio.api import AnyAdapter, BaseModel
    from studio_peft.config import PeftConfig

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
TIED = ("token_embd.weight", "output.weight")


@dataclass(frozen=True)
class PeftOptions:
    """How a PEFT directory is read."""

    row_order: Literal["auto", "as stored"] = field(
        default="auto",
        metadata={
            "help": "Row order of Q and K in the base. 'auto' goes by its architecture; choose 'as stored' "
            "for a llama base made from one of Mistral's own checkpoints, whose converter keeps the rows.",
            "choices": ("auto", "as stored"),
        },
    )


class PeftLoader:
    """Loads PEFT directories, by the directory or by a file in it."""

    name = "PEFT directory"
    Options = PeftOptions

    def recognises(self, path: Path) -> bool:
        """Say whether PEFT's configuration is there; a damaged one counts where its weights are, too."""
        try:
            folder = _folder(path)
            if not (folder / CONFIG).is_file():
                return False
            if (folder / WEIGHTS).is_file() or (folder / PICKLE).is_file():
                return True
            return "peft_type" in read_fields(folder / CONFIG)
        except (OSError, ValueError, StudioError):
            return False

    def load(self, path: Path, base: BaseModel | None, options: PeftOptions) -> AnyAdapter:
        """Read it, with module names and rows as `base` has them; without a base, as a llama would.

        Raises
        ------
        FormatError
            A file is missing or damaged, or the two contradict each other.
        UnsupportedError
            It is more than LoRA or DoRA, or the base's architecture is not known.
        MismatchError
            Q or K do not divide into the base's heads.
        """
        folder = _folder(path)
        config = read_config(folder / CONFIG)
        if not (folder / WEIGHTS).is_file() and (folder / PICKLE).is_file():
            raise UnsupportedError(
                "the weights are a pickle, which can run programs, and is never opened",
                path=folder / PICKLE,
                remedy="Save the adapter again with PEFT's safe_serialization=True",
            )
        content = sort_keys(read_safetensors(folder / WEIGHTS), folder / WEIGHTS)
        notes = []
        if content.copies:
            notes.append(f"Copies of the base's own weights are left aside: {listing(content.copies, 3)}")
        _check_magnitudes(content.pairs, config, folder / WEIGHTS)
        named, unmapped = _named_pairs(content.pairs, config, base, folder / WEIGHTS)
        placement = (
            Placement(named, rows_as_stored=True) if base is None else fit(named, base, options.row_order)
        )
        if config.ties_embeddings and not placement.pairs.keys().isdisjoint(TIED):
            raise UnsupportedError(
                "one pair acts on the embedding and the output; as a plain LoRA it would be wrong",
                path=config.path,
                where="ensure_weight_tying",
                remedy="Merge it into its base with PEFT and open the merged model",
            )
        return placement.adapter(
            Path(os.path.abspath(folder)).name,
            source=folder,
            format=self.name,
            unmapped=(*content.unknown, *unmapped),
            notes=tuple(notes),
        )


def _folder(path: Path) -> Path:
    return path.parent if path.name in (CONFIG, WEIGHTS, PICKLE) else path


def _check_magnitudes(pairs: Mapping[str, Pair], config: PeftConfig, path: Path) -> None:
    """Refuse DoRA magnitudes where the configuration knows none, and the other way round."""
    for module, pair in pairs.items():
        if config.use_dora != (pair.magnitude is not None):
            raise FormatError(
                "DoRA magnitudes are there, and use_dora is not set"
                if pair.magnitude is not None
                else "use_dora is set, and the DoRA magnitude is missing",
                path=path,
                where=module,
                remedy="Bring together the two files of one adapter",
            )


def _named_pairs(
    pairs: Mapping[str, Pair], config: PeftConfig, base: BaseModel | None, path: Path
) -> tuple[dict[str, NamedPair], list[str]]:
    """Make the factors by their names in the base, and list the modules that have no name there."""
    named: dict[str, dict[str, LoraFactors]] = {}
    magnitudes: dict[str, np.ndarray[Any, Any]] = {}
    unmapped = []
    for hf_module, pair in pairs.items():
        if base is not None and is_flat(hf_module):
            found = split_flat(hf_module, pair, config, base, path)
        else:
            module = gguf_module(all_experts(hf_module), base.architecture if base else "llama")
            found = {} if module is None else {module: _factors(hf_module, pair, config, path)}
        for module, factors in found.items():
            named.setdefault(module, {})[hf_module] = factors
            if pair.magnitude is not None:
                magnitudes[module] = pair.magnitude.reshape(-1)
        if not found:
            unmapped.append(hf_module)
    return {
        module: NamedPair(one_weight(module, parts, path), magnitudes.get(module))
        for module, parts in named.items()
    }, unmapped


def _factors(hf_module: str, pair: Pair, config: PeftConfig, path: Path) -> LoraFactors:
    """Make the factors of one module. ``fan_in_fan_out`` says how W lies, and changes nothing here."""
    if pair.a.ndim != 2 or pair.b.ndim != 2:
        raise FormatError(
            f"A {pair.a.shape} and B {pair.b.shape} must be matrices",
            path=path,
            where=hf_module,
            remedy="Save the adapter again with PEFT",
        )
    rank = config.rank_of(hf_module)
    if not pair.a.shape[0] == pair.b.shape[1] == rank:
        raise FormatError(
            f"A {pair.a.shape} and B {pair.b.shape} do not have the rank {rank} of {CONFIG}",
            path=path,
            where=hf_module,
            remedy="Bring together the two files of one adapter",
        )
    # An embedding's weight is (vocab, embd), so PEFT's A (r, vocab) and B (embd, r) change places.
    a, b = (pair.b.T, pair.a.T) if pair.is_embedding else (pair.a, pair.b)
    return LoraFactors(a, b, config.alpha_of(hf_module), config.rank_stabilised)
