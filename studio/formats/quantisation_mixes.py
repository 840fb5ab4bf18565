"""Which tensor gets which type in a mix such as Q4_K_M: the choices of llama-quantize.

From ``llama_tensor_get_type`` and what it calls, in
https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp, and the numbers of ``llama_ftype`` in
https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.quantise import FLOAT_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import MetadataValue, TensorInfo

EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
HEAD = "output.weight"
QUANTISATION_VERSION = 2
"""The value of ``general.quantization_version``: how ggml lays its blocks out."""


@dataclass(frozen=True)
class Mix:
    """A file type of llama.cpp: its number in ``general.file_type``, and the type most tensors get."""

    number: int
    default: str


MIXES: Mapping[str, Mix] = {
    "F32": Mix(0, "F32"),
    "F16": Mix(1, "F16"),
    "BF16": Mix(32, "BF16"),
    "Q8_0": Mix(7, "Q8_0"),
    "Q6_K": Mix(18, "Q6_K"),
    "Q5_K_M": Mix(17, "Q5_K"),
    "Q5_K_S": Mix(16, "Q5_K"),
    "Q5_1": Mix(9, "Q5_1"),
    "Q5_0": Mix(8, "Q5_0"),
    "Q4_K_M": Mix(15, "Q4_K"),
    "Q4_K_S": Mix(14, "Q4_K"),
    "Q4_1": Mix(3, "Q4_1"),
    "Q4_0": Mix(2, "Q4_0"),
    "IQ4_NL": Mix(25, "IQ4_NL"),
    "IQ4_XS": Mix(30, "IQ4_XS"),
    "Q3_K_L": Mix(13, "Q3_K"),
    "Q3_K_M": Mix(12, "Q3_K"),
    "Q3_K_S": Mix(11, "Q3_K"),
    "IQ3_M": Mix(27, "IQ3_S"),
    "IQ3_S": Mix(26, "IQ3_S"),
    "Q2_K": Mix(10, "Q2_K"),
}
"""The mixes that need no importance matrix, the finest first."""

KEPT_AS_THEY_ARE = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    *(f"time_mix_{one}{number}.weight" for one in "wvag" for number in range(3)),
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    "position_embd",
    "token_types.weight",
)
"""Parts of the names of matrices that are never quantised."""

ROLES = (
    ("qkv", "attn_qkv.weight"),
    ("kv_b", "attn_kv_b.weight"),
    ("v", "attn_v.weight"),
    ("k", "attn_k.weight"),
    ("q", "attn_q.weight"),
    ("attn_output", "attn_output.weight"),
    ("up", "ffn_up"),
    ("gate", "ffn_gate"),
    ("down", "ffn_down"),
)
"""What a tensor is for, by a part of its name; the first that matches."""

FALLBACKS = {
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
"""What a row that is no whole number of blocks of 256 gets instead; F16 where that does not fit either."""


@dataclass
class _Counts:
    """How many tensors of each role have been given a type."""

    by_role: dict[str, int] = field(default_factory=dict)

    def next(self, role: str) -> int:
        number = self.by_role.get(role, 0)
        self.by_role[role] = number + 1
        return number


def mix_types(
    mix_name: str,
    tensors: Mapping[str, TensorInfo],
    metadata: Mapping[str, MetadataValue],
    *,
    has_imatrix: bool = False,
) -> dict[str, str]:
    """Return the type of every tensor, by name, in a file of this mix.

    Parameters
    ----------
    mix_name
        A key of `MIXES`.
    tensors
        The model's tensors.
    metadata
        The model's metadata: layers, heads and experts count.
    has_imatrix
        Whether the tensors are quantised by an importance matrix.
    """
    chooser = _Chooser(mix_name, tensors, metadata, has_imatrix)
    chosen = {name: chooser.choose(tensors[name]) for name in sorted(tensors, key=_by_layer)}
    return {name: chosen[name] for name in tensors}


def _by_layer(name: str) -> tuple[int, str]:
    """Order names as llama.cpp does: by layer, then by name."""
    found = re.match(r"blk\.(\d+)\.", name)
    return (int(found[1]) if found else -1, name)


class _Chooser:
    def __init__(
        self,
        mix_name: str,
        tensors: Mapping[str, TensorInfo],
        metadata: Mapping[str, MetadataValue],
        has_imatrix: bool,
    ) -> None:
        architecture = metadata.get("general.architecture")
        self.mix = mix_name
        self.has_imatrix = has_imatrix
        self.falcon = architecture == "falcon"
        self.layers = _number(metadata.get(f"{architecture}.block_count"), 1)
        self.experts = _number(metadata.get(f"{architecture}.expert_count"), 0)
        heads = _number(metadata.get(f"{architecture}.attention.head_count"), 1)
        groups = _number(metadata.get(f"{architecture}.attention.head_count_kv"), heads)
        self.shared_keys = heads // groups if groups else 0
        self.seventy_billion = self.layers == 80 and groups != heads and architecture == "llama"
        self.tied = HEAD not in tensors
        self.values = sum(_role(name) in ("v", "qkv", "kv_b") for name in tensors)
        self.counts = _Counts()

    def choose(self, tensor: TensorInfo) -> str:
        """Return the type of the next tensor; tensors come in the order of `_by_layer`."""
        default = MIXES[self.mix].default
        if not _may_change(tensor):
            return tensor.type_name
        if default in FLOAT_TYPES:
            return default
        width = tensor.shape[-1]
        if tensor.name == HEAD or (self.tied and tensor.name in EMBEDDINGS):
            wanted = default
            if self.falcon or width % GGML_TYPES_BY_NAME[default].block_size:
                wanted = "Q8_0"
            elif default != "Q8_0":
                wanted = "Q6_K"
        else:
            wanted = self._by_role(_role(tensor.name), tensor.name, default)
        return _fitting(wanted, width)

    def _by_role(self, role: str, name: str, default: str) -> str:
        if role in ("v", "qkv", "kv_b"):
            return self._value(self.counts.next("v"), default)
        if role == "k" and self.experts == 8:
            return "Q8_0"
        if role == "down":
            number = self.counts.next("down")
            found = re.match(r"blk\.(\d+)\.", name)
            return self._down(int(found[1]) if found and self.experts > 1 else number, default)
        if role == "attn_output":
            return self._attention_output(default)
        return default

    def _value(self, number: int, default: str) -> str:
        mix, wanted = self.mix, default
        if mix == "Q2_K":
            wanted = "Q4_K" if self.shared_keys >= 4 else "Q3_K"
        elif mix in ("IQ3_S", "IQ3_M") and (mix == "IQ3_M" or self.shared_keys >= 4):
            wanted = "Q4_K"
        elif mix == "Q3_K_M":
            wanted = "Q5_K" if number < 2 else "Q4_K"
        elif mix == "Q3_K_L" or (mix in ("IQ4_NL", "IQ4_XS") and self.shared_keys >= 4):
            wanted = "Q5_K"
        elif mix in ("Q4_K_M", "Q5_K_M") and _more_bits(number, self.values):
            wanted = "Q6_K"
        elif mix == "Q4_K_S" and number < 4:
            wanted = "Q5_K"
        if self.seventy_billion and wanted in ("Q3_K", "Q4_K"):
            wanted = "Q5_K"
        return "Q8_0" if self.experts == 8 else wanted

    def _down(self, layer: int, default: str) -> str:
        mix, layers = self.mix, self.layers
        early, more = layer < layers // 8, _more_bits(layer, layers)
        if mix == "Q2_K":
            return "Q3_K"
        if mix == "Q3_K_M":
            if layer < layers // 16:
                return "Q5_K"
            return "Q4_K" if not self.falcon or more else "Q3_K"
        if mix == "IQ3_M" and (early or (self.experts == 8 and more)):
            return "Q4_K"
        if mix == "Q3_K_L":
            return "Q4_K" if self.falcon else "Q5_K"
        if mix == "Q4_K_M" and self.falcon:
            return "Q6_K" if layer < layers // 16 else "Q5_K" if more else "Q4_K"
        if mix in ("Q4_K_M", "Q5_K_M") and more:
            return "Q6_K"
        if early and mix in ("IQ4_NL", "IQ4_XS") and not self.has_imatrix:
            return "Q5_K"
        if early and mix == "Q4_K_S" and not self.falcon:
            return "Q5_K"
        if early and mix in ("Q4_0", "Q5_0") and self.has_imatrix:
            return "Q4_1" if mix == "Q4_0" else "Q5_1"
        return default

    def _attention_output(self, default: str) -> str:
        mix = self.mix
        if self.falcon:
            return "Q4_K" if mix == "Q3_K_L" else default
        if self.experts == 8:
            raised = ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_M")
            return "Q5_K" if mix in raised else default
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}.get(mix, default)


def _may_change(tensor: TensorInfo) -> bool:
    """Say whether a tensor may be stored in another type at all."""
    matrix = sum(size > 1 for size in tensor.shape[:-1]) > 0
    named = tensor.name.endswith("weight") and not any(part in tensor.name for part in KEPT_AS_THEY_ARE)
    return matrix and named


def _role(name: str) -> str:
    return next((role for role, part in ROLES if part in name), "")


def _more_bits(layer: int, layers: int) -> bool:
    """Say whether a layer is one of those that get more: the first and last eighths, every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _fitting(type_name: str, width: int) -> str:
    """Return the type, or what stands in for it where rows are no whole number of its blocks."""
    if width % GGML_TYPES_BY_NAME[type_name].block_size == 0:
        return type_name
    fallback = FALLBACKS.get(type_name, type_name)
    return fallback if width % GGML_TYPES_BY_NAME[fallback].block_size == 0 else "F16"


def _number(value: MetadataValue | None, default: int) -> int:
    """Return a hyperparameter; of one that differs by layer, the first layer's."""
    if value is None or isinstance(value, str):
        return default
    if isinstance(value, (bool, int, float)):
        return int(value)
    return int(value[0]) if len(value) else default
