"""Writes the blend as an MLX-LM directory: both factors transposed, one rank and one scale for all modules.

https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/tuner/utils.py
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from studio.api import (
    DeltaPart,
    PendingTensor,
    Progress,
    UnsupportedError,
    exported_modules,
    exported_parts,
    files_in_use,
    in_hugging_face_form,
    join_parts,
    pad_rank,
    predict_factors,
    replacing_folder,
    request_provenance,
    require_space,
    write_safetensors,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.api import BaseModel, ExportRequest, FloatArray, Prediction, Work

CONFIG = "adapter_config.json"
WEIGHTS = "adapters.safetensors"

OUTPUT = "output.weight"
EMBEDDING_NAME, OUTPUT_NAME = "model.embed_tokens", "lm_head"

SAME_NAMES = frozenset(
    ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "granite", "olmo2", "phi3", "starcoder2")
)
"""Architectures whose modules MLX-LM calls as Hugging Face does."""


@dataclass(frozen=True)
class MlxExportOptions:
    """How the directory is written."""

    type: Literal["F32", "F16", "BF16"] = field(
        default="F32", metadata={"help": "How to store the weights.", "choices": ("F32", "F16", "BF16")}
    )


class MlxExporter:
    """Writes ``adapter_config.json`` and ``adapters.safetensors``."""

    name = "MLX directory"
    suffix = ""
    Options = MlxExportOptions
    summary = "A folder that MLX-LM loads as an adapter, on a Mac."

    def predict(
        self, request: ExportRequest, ranks: Mapping[str, int], options: MlxExportOptions
    ) -> Prediction:
        """Tell how large the directory will be."""
        return predict_factors(request, dict.fromkeys(ranks, max(ranks.values(), default=0)), options.type)

    def export(self, request: ExportRequest, path: Path, options: MlxExportOptions) -> Work:
        """Write the directory whole, or not at all.

        Raises
        ------
        StudioError
            Nothing is audible, an adapter does not show its factors, or one does not fit the base.
        UnsupportedError
            The names of the architecture are others in MLX-LM, or a module is one of experts.
        SaveError
            The target is in use or holds other files, or the disk is full.
        """
        base = request.base
        if base.architecture not in SAME_NAMES:
            raise UnsupportedError(
                f"the module names of {base.architecture!r} in MLX-LM are not known",
                remedy=f"Export a PEFT directory; known ones are {', '.join(sorted(SAME_NAMES))}",
            )
        modules = exported_modules(request, tied_output=True)
        factors: dict[str, DeltaPart] = {}
        for done, module in enumerate(modules):
            yield Progress(done, 3 * len(modules), f"Combining {module}")
            part = join_parts(exported_parts(request, module))
            if part.a.ndim == 3:
                raise UnsupportedError(
                    "adapters on experts are not written for MLX-LM",
                    where=module,
                    remedy="Export as a stacked adapter (GGUF) or a PEFT directory",
                )
            name, part = in_hugging_face_form(part, module, base)
            factors[name] = part
        if OUTPUT not in base.tensors:
            _tie(factors, base)
        rank = max(part.a.shape[-2] for part in factors.values())
        scale, factors = _one_scale({name: pad_rank(part, rank) for name, part in factors.items()})
        tensors = {key: PendingTensor.of(values) for key, values in _tensors(factors).items()}
        require_space(path, sum(tensor.nbytes(options.type) for tensor in tensors.values()))
        with replacing_folder(path, request_provenance(request), files_in_use(request)) as folder:
            text = json.dumps(_configuration(factors, rank, scale, base), indent=4) + "\n"
            (folder / CONFIG).write_text(text, encoding="utf-8")
            for step in write_safetensors(folder / WEIGHTS, tensors, options.type):
                yield Progress(len(modules) + step.done, len(modules) + step.total, step.message)


def _tie(factors: dict[str, DeltaPart], base: BaseModel) -> None:
    """Make one pair of those on an embedding and the output that is tied to it, where they are alike.

    MLX-LM lets the pair on a tied embedding act on the output as well.
    """
    embedding, output = factors.get(EMBEDDING_NAME), factors.pop(OUTPUT_NAME, None)
    if embedding is None and output is None:
        return
    if (
        embedding is None
        or output is None
        or embedding.scale != output.scale
        or not np.array_equal(embedding.a, output.a)
        or not np.array_equal(embedding.b, output.b)
    ):
        raise UnsupportedError(
            f"{base.name} ties its output to its embedding, and MLX-LM adapts both by one pair",
            where="token_embd.weight",
            remedy="Export a PEFT directory, or merge the blend into the base",
        )


def _one_scale(factors: Mapping[str, DeltaPart]) -> tuple[float, dict[str, DeltaPart]]:
    """Return the scale that all modules share; where they differ it is 1, and B takes what each had."""
    scales = {part.scale for part in factors.values()}
    if len(scales) == 1:
        return scales.pop(), dict(factors)
    return 1.0, {name: join_parts([part], alpha=part.a.shape[-2]) for name, part in factors.items()}


def _tensors(factors: Mapping[str, DeltaPart]) -> dict[str, FloatArray]:
    """Return ``lora_a`` (in, r) and ``lora_b`` (r, out) by module.

    The look-up of an embedding takes rows of A, so its A is (vocab, r) and its B (r, embd).
    """
    tensors: dict[str, FloatArray] = {}
    for name, part in factors.items():
        is_embedding = name.endswith("embed_tokens")
        a, b = (part.b, part.a) if is_embedding else (part.a.T, part.b.T)
        tensors[f"{name}.lora_a"] = np.ascontiguousarray(a)
        tensors[f"{name}.lora_b"] = np.ascontiguousarray(b)
    return tensors


def _configuration(
    factors: Mapping[str, DeltaPart], rank: int, scale: float, base: BaseModel
) -> dict[str, object]:
    """Return the fields that MLX-LM reads. ``keys`` name modules inside a layer, or in full outside."""
    layers = base.metadata.get(f"{base.architecture}.block_count")
    keys = {name.split(".", 3)[3] if name.startswith("model.layers.") else name for name in factors}
    return {
        "fine_tune_type": "lora",
        "num_layers": layers if isinstance(layers, int) else -1,
        "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0, "keys": sorted(keys)},
    }
