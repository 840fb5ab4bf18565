"""The metadata of a merged file: the base's own as stored, what the merge changes, and where it came from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from studio.formats.gguf_packing import pack_metadata
from studio.formats.quantisation_mixes import QUANTISATION_VERSION
from studio.lora.merge_plan import KEEP, file_type
from studio.lora.merging import raw_model
from studio.lora.provenance import source_name, source_of
from studio.session.fingerprint import adapter_fingerprint, base_fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.contracts import ExportRequest, MetadataValue
    from studio.lora.merging import TensorPlan

ARCHITECTURE = "general.architecture"
FILE_TYPE = "general.file_type"
VERSION = "general.quantization_version"
LEFT_OUT = ("split.", "lora_studio.merge.")
"""What belongs to the base's files and not to the model, by how the keys begin."""

OLD_QUANTISATION = ("quantize.",)
"""What tells how the base was quantised."""


def merged_values(
    request: ExportRequest,
    plans: Mapping[str, TensorPlan],
    path: Path,
    *,
    type_name: str,
    rounding: str,
    seed: int,
) -> dict[str, bytes]:
    """Return all metadata of the merged file, each value as stored.

    Parameters
    ----------
    request
        What is merged.
    plans
        What becomes of the tensors.
    path
        The file to be written, for errors.
    type_name, rounding, seed
        How it is merged.
    """
    base = raw_model(request)
    old = request.base.metadata
    left_out = LEFT_OUT if type_name == KEEP else LEFT_OUT + OLD_QUANTISATION
    new: dict[str, MetadataValue] = {
        ARCHITECTURE: request.base.architecture,
        FILE_TYPE: file_type(plans, type_name, old.get(FILE_TYPE)),
        VERSION: QUANTISATION_VERSION,
        **_provenance(request, rounding, seed),
    }
    packed = {key: value.to_bytes() for key, value in pack_metadata(new, path).items()}
    kept = {key: base.raw_metadata(key) for key in old if not key.startswith(left_out)}
    return kept | packed


def _provenance(request: ExportRequest, rounding: str, seed: int) -> dict[str, MetadataValue]:
    """Say what the file was made of: base, adapters, how loud each was, and how they were combined."""
    names, digests, scales, gains = [], [], [], []
    for channel in request.state.channels:
        adapter = request.adapters[channel.key]
        source = source_of(adapter)
        names.append(source_name(adapter))
        digests.append(adapter_fingerprint(source) if source is not None and source.exists() else "")
        scales.append(repr(channel.scale))
        gains.append(json.dumps(dict(channel.gains.by_module)))
    combination = request.combination
    return {
        "lora_studio.merge.base": request.base.path.name,
        "lora_studio.merge.base_fingerprint": base_fingerprint(*request.base.files),
        "lora_studio.merge.adapters": names,
        "lora_studio.merge.adapter_fingerprints": digests,
        "lora_studio.merge.scales": scales,
        "lora_studio.merge.gains": gains,
        "lora_studio.merge.method": combination.method.name if combination else "sum",
        "lora_studio.merge.method_options": repr(combination.options) if combination else "",
        "lora_studio.merge.rounding": rounding,
        "lora_studio.merge.seed": seed,
    }
