"""Writes the blend as a PEFT directory: names and row order as Hugging Face has them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from studio.api import (
    DeltaPart,
    Exported,
    PendingTensor,
    Progress,
    exported_modules,
    exported_parts,
    files_in_use,
    hugging_face_module,
    in_hugging_face_form,
    join_parts,
    predict_factors,
    replacing_folder,
    request_provenance,
    require_space,
    write_safetensors,
)
from studio_peft.flat_experts import flatten_experts
from studio_peft.keys import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from studio.api import BaseModel, ExportRequest, FloatArray, Prediction, Work

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"

ROUTER = ".mlp.gate"
"""Chooses the experts; Hugging Face keeps its weight as a parameter, not as a linear module."""

TRANSPOSED_WEIGHTS = frozenset({"gpt2"})
"""Architectures whose weights Hugging Face keeps as (in, out), which PEFT wants to be told."""


@dataclass(frozen=True)
class PeftExportOptions:
    """How the directory is written."""

    type: Literal["F32", "F16", "BF16"] = field(
        default="F32", metadata={"help": "How to store the weights.", "choices": ("F32", "F16", "BF16")}
    )
    base_model: str = field(
        default="",
        metadata={"help": "The base's name on Hugging Face or its folder; as the base's file says if empty."},
    )
    row_order: Literal["auto", "as stored"] = field(
        default="auto",
        metadata={
            "help": "Row order of Q and K in the base. 'auto' goes by its architecture; choose 'as stored' "
            "for a llama base made from one of Mistral's own checkpoints, whose converter keeps the rows.",
            "choices": ("auto", "as stored"),
        },
    )


class PeftExporter:
    """Writes ``adapter_config.json`` and ``adapter_model.safetensors``."""

    name = "PEFT directory"
    suffix = ""
    Options = PeftExportOptions
    summary = "A folder that PEFT and transformers load as an adapter of the base at Hugging Face."

    def predict(
        self, request: ExportRequest, ranks: Mapping[str, int], options: PeftExportOptions
    ) -> Prediction:
        """Tell how large the directory will be."""
        return predict_factors(request, ranks, options.type)

    def export(self, request: ExportRequest, path: Path, options: PeftExportOptions) -> Work:
        """Write the directory whole, or not at all.

        Raises
        ------
        StudioError
            Nothing is audible, an adapter does not show its factors, or one does not fit the base.
        UnsupportedError
            A module has no name in Hugging Face's model.
        SaveError
            The target is in use or holds other files, or the disk is full.
        """
        base = request.base
        modules = exported_modules(request, tied_output=True)
        factors: dict[str, DeltaPart] = {}
        for done, module in enumerate(modules):
            yield Progress(done, 3 * len(modules), f"Combining {module}")
            part = join_parts(exported_parts(request, module))
            keep_rows = options.row_order != "auto"
            name, part = in_hugging_face_form(part, module, base, keep_rows=keep_rows)
            factors[name] = part
        experts = flatten_experts(factors)
        plain = {name: part for name, part in factors.items() if part.a.ndim == 2}
        tensors = _tensors(plain) | {PREFIX + key: value for key, value in experts.tensors.items()}
        pending = {key: PendingTensor.of(values) for key, values in tensors.items()}
        require_space(path, sum(tensor.nbytes(options.type) for tensor in pending.values()))
        routers = {f"{name}.weight": part for name, part in plain.items() if name.endswith(ROUTER)}
        linear = {name: part for name, part in plain.items() if not name.endswith(ROUTER)}
        config = {
            **_configuration({**linear, **routers, **experts.parts}, base, options),
            "target_modules": _target_modules(linear, base),
            "target_parameters": sorted(routers.keys() | experts.parts.keys()) or None,
        }
        with replacing_folder(path, request_provenance(request), files_in_use(request)) as folder:
            text = json.dumps(config, indent=2, sort_keys=True) + "\n"
            (folder / CONFIG).write_text(text, encoding="utf-8")
            for step in write_safetensors(folder / WEIGHTS, pending, options.type):
                yield Progress(len(modules) + step.done, len(modules) + step.total, step.message)
        return Exported(path, tuple(_notes(modules, base)))


def _tensors(factors: Mapping[str, DeltaPart]) -> dict[str, FloatArray]:
    tensors: dict[str, FloatArray] = {}
    for name, part in factors.items():
        if _is_embedding(name):  # its weight is (vocab, embd): A and B change places
            tensors[f"{PREFIX}{name}.lora_embedding_A"] = np.ascontiguousarray(part.b.T)
            tensors[f"{PREFIX}{name}.lora_embedding_B"] = np.ascontiguousarray(part.a.T)
        else:
            tensors[f"{PREFIX}{name}.lora_A.weight"] = part.a
            tensors[f"{PREFIX}{name}.lora_B.weight"] = part.b
    return tensors


def _is_embedding(name: str) -> bool:
    return name.rpartition(".")[2] in ("embed_tokens", "wte")


def _configuration(
    parts: Mapping[str, DeltaPart], base: BaseModel, options: PeftExportOptions
) -> dict[str, object]:
    """Return all fields but the targets; the commonest rank and alpha stand for all that have them."""
    ranks = {name: part.a.shape[-2] for name, part in parts.items()}
    alphas = {name: _number(part.scale * ranks[name]) for name, part in parts.items()}
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": options.base_model or _base_name(base),
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: own for name, own in ranks.items() if own != rank},
        "alpha_pattern": {name: own for name, own in alphas.items() if own != alpha},
        "use_rslora": False,
        "use_dora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "modules_to_save": None,
        "fan_in_fan_out": base.architecture in TRANSPOSED_WEIGHTS,
        "init_lora_weights": True,
    }


def _target_modules(parts: Mapping[str, DeltaPart], base: BaseModel) -> list[str]:
    """Name the modules: by the ends of their names where all that end so are adapted, else in full.

    PEFT adapts every module whose name is one of these or ends in a dot and one of these.
    """
    linear = [module for module, info in base.tensors.items() if len(info.shape) == 2]
    known = {hugging_face_module(module, base.architecture) for module in linear} - {None}
    targets = set()
    for name in parts:
        end = name.rpartition(".")[2]
        alike = {other for other in known if other is not None and other.rpartition(".")[2] == end}
        targets.add(end if alike <= parts.keys() else name)
    return sorted(targets)


def _base_name(base: BaseModel) -> str | None:
    """Return what the base's file says of where it came from, as Hugging Face names it."""
    for key in ("general.source.huggingface.repository", "general.base_model.0.repo_url", "general.repo_url"):
        value = base.metadata.get(key)
        if isinstance(value, str) and value:
            return value.removeprefix("https://huggingface.co/")
    return None


def _commonest(values: Iterable[float]) -> float:
    values = list(values)
    return max(values, key=values.count)


def _number(value: float) -> float:
    """Return a whole number as an int, which is what PEFT writes itself."""
    return int(value) if value == int(value) else value


def _notes(modules: list[str], base: BaseModel) -> list[str]:
    if OUTPUT in modules and OUTPUT not in base.tensors:
        return [
            "The base ties its output to its embedding; the adapter acts on the output alone, as PEFT does "
            "unless ensure_weight_tying is set. Other tools may drop it"
        ]
    return []
