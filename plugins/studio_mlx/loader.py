"""Reads MLX-LM directories: factors the other way up than PEFT's, Hugging Face's names and rows.

https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/tuner/lora.py and dora.py
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.api import (
    Finding,
    FormatError,
    LoraFactors,
    NamedPair,
    RowOrder,
    StudioError,
    gguf_module,
    place,
    read_safetensors,
)
from studio_mlx.config import MlxConfig, read_config, read_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from studio.api import AnyAdapter, BaseModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapters.safetensors"
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
_HALVES = {"lora_a": "a", "lora_b": "b", "m": "magnitude"}


@dataclass(frozen=True)
class MlxOptions:
    """How an MLX-LM directory is read."""

    row_order: RowOrder = field(
        default="auto",
        metadata={
            "help": "Row order of Q and K in the base. 'auto' goes by its architecture; choose 'as stored' "
            "for a llama base made from one of Mistral's own checkpoints, whose converter keeps the rows.",
            "choices": ("auto", "as stored"),
        },
    )


class MlxLoader:
    """Loads MLX-LM directories, by the directory or by a file in it."""

    name = "MLX-LM directory"
    Options = MlxOptions

    def recognises(self, path: Path) -> bool:
        """Say whether MLX-LM's configuration is there. One that is PEFT's is not, whatever lies beside it."""
        try:
            folder = _folder(path)
            if not (folder / CONFIG).is_file() or (folder / "adapter_model.safetensors").is_file():
                return False
            if not (folder / WEIGHTS).is_file():
                return {"fine_tune_type", "lora_parameters"} <= read_fields(folder / CONFIG).keys()
            return not _is_pefts(folder / CONFIG)
        except (OSError, ValueError, StudioError):
            return False

    def load(self, path: Path, base: BaseModel | None, options: MlxOptions) -> AnyAdapter:
        """Read it, with names and rows as `base` has them; without a base, as a llama would.

        Raises
        ------
        FormatError
            A file is missing or damaged, or the two contradict each other.
        UnsupportedError
            It is a whole fine-tune, or the base's architecture is not known.
        MismatchError
            Q, K or a part of a fused weight does not fit the base.
        """
        folder = _folder(path)
        config = read_config(folder / CONFIG)
        content, unknown = _sort(read_safetensors(folder / WEIGHTS))
        pairs = {
            _hugging_face_name(module): _pair(module, halves, config, folder / WEIGHTS)
            for module, halves in content.items()
        }
        findings = []
        if base is not None and OUTPUT not in base.tensors:
            findings += _tie(pairs, base)
        if config.old_alpha is not None:
            findings.append(_old_scale(config))
        placement = place(pairs, base, folder / WEIGHTS, options.row_order)
        return placement.adapter(
            Path(os.path.abspath(folder)).name,
            source=folder,
            format=self.name,
            unmapped=tuple(unknown),
            findings=tuple(findings),
        )


def _folder(path: Path) -> Path:
    return path.parent if path.name in (CONFIG, WEIGHTS) else path


def _is_pefts(path: Path) -> bool:
    """Say whether it is PEFT's configuration; a damaged one is whose the weights are."""
    try:
        return "peft_type" in read_fields(path)
    except StudioError:
        return False


def _sort(
    tensors: Mapping[str, np.ndarray[Any, Any]],
) -> tuple[dict[str, dict[str, np.ndarray[Any, Any]]], list[str]]:
    """Sort tensors by module and half; what is neither is listed."""
    content: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    unknown = []
    for key, tensor in tensors.items():
        module, _, half = key.rpartition(".")
        if module and half in _HALVES:
            content.setdefault(module, {})[_HALVES[half]] = tensor
        else:
            unknown.append(key)
    return content, unknown


def _hugging_face_name(module: str) -> str:
    """Return what Hugging Face calls the module: MLX-LM has another name for the experts together."""
    return module.replace("block_sparse_moe.switch_mlp", "mlp.experts").replace("switch_mlp", "experts")


def _pair(
    module: str, halves: Mapping[str, np.ndarray[Any, Any]], config: MlxConfig, path: Path
) -> NamedPair:
    """Turn a module's halves the way up that PEFT has them.

    Linear: lora_a (in, r), lora_b (r, out). Embedding: lora_a (vocab, r), lora_b (r, embd). Experts stand as
    in PEFT: lora_a (E, r, in), lora_b (E, out, r).
    """
    wanted = {"a", "b", "magnitude"} if config.is_dora else {"a", "b"}
    if halves.keys() != wanted:
        raise FormatError(
            f"it has {', '.join(sorted(halves))} and should have {', '.join(sorted(wanted))}",
            path=path,
            where=module,
            remedy="Copy both files of the adapter again",
        )
    a, b = halves["a"], halves["b"]
    if a.ndim != b.ndim or a.ndim not in (2, 3):
        raise FormatError(
            f"lora_a {a.shape} and lora_b {b.shape} are no pair",
            path=path,
            where=module,
            remedy="Save the adapter again with MLX-LM",
        )
    if a.ndim == 2:
        a, b = (b, a) if gguf_module(module, "llama") == EMBEDDING else (a.T, b.T)
    if a.shape[-2] != config.rank:
        raise FormatError(
            f"its rank is {a.shape[-2]}, that of {CONFIG} {config.rank}",
            path=path,
            where=module,
            remedy="Bring together the two files of one adapter",
        )
    return NamedPair(LoraFactors(a, b, alpha=config.scale * config.rank), halves.get("magnitude"))


def _tie(pairs: dict[str, NamedPair], base: BaseModel) -> list[Finding]:
    """Let a pair on a tied embedding act on the output as well, as it does in MLX-LM."""
    for name, pair in pairs.items():
        if gguf_module(name, base.architecture) == EMBEDDING and "lm_head" not in pairs:
            pairs["lm_head"] = pair
            return [
                Finding(
                    "tied-pair",
                    "info",
                    "MLX-LM applies a pair on a tied embedding to the output too, and so does the studio",
                    (("PEFT", "applies such a pair to the embedding alone"),),
                    "Merge it: the merged model has an output of its own",
                    (name,),
                )
            ]
    return []


def _old_scale(config: MlxConfig) -> Finding:
    return Finding(
        "mlx-alpha",
        "warning",
        f"It has an alpha of {config.old_alpha:g} beside its scale of {config.scale:g}, which alone is used",
        (("MLX", "early versions scaled by scale * alpha / rank, later ones by the scale alone"),),
        "If an early version trained it, multiply the scale in its configuration by alpha / rank",
        ("lora_parameters.alpha",),
    )
