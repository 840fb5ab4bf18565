"""Writes the blend merged into its base as a Hugging Face model folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from studio.api import (
    Exported,
    Prediction,
    Progress,
    exported_modules,
    files_in_use,
    replacing_folder,
    request_provenance,
    require_space,
    tokenizer_files,
    write_safetensors,
)
from studio_hf.configuration import configuration
from studio_hf.weights import in_shards, is_tied, merged_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.api import ExportRequest, Work

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class HuggingFaceOptions:
    """How the folder is written."""

    type: Literal["F32", "F16", "BF16"] = field(
        default="BF16",
        metadata={
            "help": "How to store the weights. F16 and BF16 halve the folder; F16 is the finer one.",
            "choices": ("F32", "F16", "BF16"),
        },
    )
    shard_gigabytes: float = field(
        default=5.0,
        metadata={"help": "The largest file; a larger model gets several.", "range": (0.00001, 1000.0)},
    )


class HuggingFaceExporter:
    """Writes ``config.json``, safetensors, and the tokenizer where it can be told."""

    name = "merged model (Hugging Face)"
    suffix = ""
    Options = HuggingFaceOptions
    summary = "Base and blend in one model folder that transformers, vLLM and others load."

    def predict(
        self, request: ExportRequest, ranks: Mapping[str, int], options: HuggingFaceOptions
    ) -> Prediction:
        """Tell how large the folder will be."""
        tensors = merged_tensors(request, frozenset(ranks))
        nbytes = sum(tensor.nbytes(options.type) for tensor in tensors.values())
        return Prediction(nbytes, options.type, merged=True)

    def export(self, request: ExportRequest, path: Path, options: HuggingFaceOptions) -> Work:
        """Write the folder whole, or not at all; one tensor is in memory at a time.

        Raises
        ------
        StudioError
            Nothing is audible, an adapter does not show its factors, or one does not fit the base.
        UnsupportedError
            The architecture is not known, or a tensor has no place at Hugging Face's.
        SaveError
            The target is in use or holds other files, or the disk is full.
        """
        base = request.base
        modules = frozenset(exported_modules(request, tied_output=True, full_rank=True))
        tensors = merged_tensors(request, modules)
        config = configuration(base, tied=is_tied(base, modules), tensor_type=options.type)
        sizes = {name: tensor.nbytes(options.type) for name, tensor in tensors.items()}
        require_space(path, sum(sizes.values()))
        shards = in_shards(tensors, sizes, options.shard_gigabytes * 1e9)
        names = (
            [SINGLE]
            if len(shards) == 1
            else [
                f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)
            ]
        )
        texts, notes = tokenizer_files(base)
        with replacing_folder(path, request_provenance(request), files_in_use(request)) as folder:
            texts = {"config.json": _json(config), **texts}
            if len(shards) > 1:
                weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
                index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
                texts[INDEX] = _json(index)
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
            done = 0
            for name, shard in zip(names, shards, strict=True):
                for step in write_safetensors(folder / name, shard, options.type):
                    yield Progress(2 * done + step.done, 2 * len(tensors), step.message)
                done += len(shard)
        return Exported(path, tuple(notes))


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
