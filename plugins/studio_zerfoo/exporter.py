"""Writes the blend in zerfoo's two GGUF dialects: one rank and one alpha for all modules, in F32.

https://pkg.go.dev/github.com/zerfoo/zerfoo, packages ``training/lora`` and ``inference/lora``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from studio.api import (
    Progress,
    UnsupportedError,
    exported_modules,
    exported_parts,
    files_in_use,
    join_parts,
    pad_rank,
    predict_factors,
    write_gguf_in_steps,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.api import ExportRequest, FloatArray, MetadataValue, Prediction, Work

RANK, ALPHA, ARCHITECTURE = "lora.rank", "lora.alpha", "general.architecture"
EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class ZerfooOptions:
    """Which of the dialects is written."""

    dialect: Literal["training", "inference"] = field(
        default="training",
        metadata={
            "help": "training: lora.<layer>.weight_a and .weight_b; inference: lora_a.<layer> and so on.",
            "choices": ("training", "inference"),
        },
    )


class ZerfooExporter:
    """Writes one adapter that zerfoo loads; its layers have the base's GGUF names without ``.weight``."""

    name = "zerfoo adapter (GGUF)"
    suffix = ".gguf"
    Options = ZerfooOptions
    summary = "One file that zerfoo loads as an adapter, in F32."

    def predict(self, request: ExportRequest, ranks: Mapping[str, int], options: ZerfooOptions) -> Prediction:
        """Tell how large the adapter will be."""
        return predict_factors(request, dict.fromkeys(ranks, max(ranks.values(), default=0)), "F32")

    def export(self, request: ExportRequest, path: Path, options: ZerfooOptions) -> Work:
        """Write the blend atomically. Modules of a lower rank are filled up with zeros.

        Raises
        ------
        StudioError
            Nothing is audible, an adapter does not show its factors, or one does not fit the base.
        UnsupportedError
            A module is no linear one.
        SaveError
            The target is in use, or the file cannot be written.
        """
        modules = exported_modules(request, tied_output=True)
        parts = {}
        for done, module in enumerate(modules):
            yield Progress(done, 7 * len(modules), f"Combining {module}")
            parts[module] = exported_parts(request, module)
            if module == EMBEDDING or parts[module][0].a.ndim != 2:
                raise UnsupportedError(
                    "zerfoo adapts linear modules alone",
                    where=module,
                    remedy="Export as a stacked adapter (GGUF)",
                )
        rank = max(sum(part.a.shape[0] for part in own) for own in parts.values())
        alpha = float(rank)  # a scaling of 1: B takes all scales
        tensors: dict[str, FloatArray] = {}
        for module, own in parts.items():
            layer = module.removesuffix(".weight")
            joined = pad_rank(join_parts(own, alpha=float(sum(part.a.shape[0] for part in own))), rank)
            training = options.dialect == "training"
            tensors[f"lora.{layer}.weight_a" if training else f"lora_a.{layer}"] = joined.a
            tensors[f"lora.{layer}.weight_b" if training else f"lora_b.{layer}"] = joined.b
        architecture = "lora" if options.dialect == "training" else request.base.architecture
        metadata: dict[str, MetadataValue] = {ARCHITECTURE: architecture, RANK: rank, ALPHA: alpha}
        for step in write_gguf_in_steps(path, metadata, tensors, protected=files_in_use(request)):
            yield Progress(len(modules) + step.done, len(modules) + step.total, step.message)
