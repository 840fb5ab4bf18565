"""How positions are scaled, from GGUF's metadata and tensors to the fields of ``config.json``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.api import UnsupportedError

if TYPE_CHECKING:
    from studio.api import FloatArray
    from studio_hf.configuration import Metadata

FACTORS = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
LOW, HIGH = 1.0, 4.0
"""``low_freq_factor`` and ``high_freq_factor`` of every Llama 3; the file keeps what follows from them."""


def rope_fields(read: Metadata) -> dict[str, Any]:
    """Return ``rope_theta``, ``rope_scaling`` and ``partial_rotary_factor`` where they are called for.

    Raises
    ------
    UnsupportedError
        The scaling is of a kind that cannot be told from the file.
    """
    theta = read.number("rope.freq_base", 10000.0)
    heads, width = read.count("attention.head_count"), read.count("embedding_length")
    size = read.count("attention.key_length", width // heads)
    rotated = read.count("rope.dimension_count", size)
    fields: dict[str, Any] = {"rope_theta": theta}
    if rotated != size:
        fields["partial_rotary_factor"] = rotated / size
    scaling = _scaling(read, theta, rotated)
    if scaling is not None:
        fields["rope_scaling"] = {**scaling, "type": scaling["rope_type"]}
    return fields


def _scaling(read: Metadata, theta: float, rotated: int) -> dict[str, Any] | None:
    tensors = read.base.tensors
    if LONG in tensors:
        return {
            "rope_type": "longrope",
            "long_factor": _plain(read.base.dense(LONG)),
            "short_factor": _plain(read.base.dense(SHORT)),
        }
    if FACTORS in tensors:
        found = llama3_scaling(read.base.dense(FACTORS), theta, rotated, read.count("context_length"))
        if found is None:
            raise _unknown(read, FACTORS, "its factors are not those of a Llama 3")
        return found
    kind = read.get("rope.scaling.type", "none")
    factor = read.number("rope.scaling.factor", 1.0)
    if kind == "none" or (kind == "linear" and factor == 1):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind != "yarn":
        raise _unknown(read, f"{read.base.architecture}.rope.scaling.type", f"it is of the type {kind!r}")
    scaling = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": read.count(
            "rope.scaling.original_context_length", read.count("context_length")
        ),
    }
    keys = {
        "yarn_beta_fast": "beta_fast",
        "yarn_beta_slow": "beta_slow",
        "yarn_attn_factor": "attention_factor",
    }
    for key, name in keys.items():
        if read.get(f"rope.scaling.{key}") is not None:
            scaling[name] = read.number(f"rope.scaling.{key}")
    return scaling


def llama3_scaling(factors: FloatArray, theta: float, rotated: int, context: int) -> dict[str, Any] | None:
    """Find the scaling of Llama 3 that gives these factors ``[rotated / 2]``; None where none does.

    A pair that turns more than `HIGH` times in the original context keeps its frequency, one that turns less
    than `LOW` times is slowed by the whole factor, and between them 1 / factor grows evenly with the turns.
    So any pair between tells the original context; without one, every context that fits gives the same.
    """
    factor = float(factors.max())
    if factor <= 1:
        return None
    lengths = 2 * math.pi * theta ** (np.arange(0, rotated, 2, dtype=np.float64) / rotated)
    share = (1 / factors.astype(np.float64) - 1 / factor) / (1 - 1 / factor)
    between = (share > 1e-3) & (share < 1 - 1e-3)
    known = lengths[between] * (LOW + share[between] * (HIGH - LOW))
    candidates = [round(float(length)) for length in known[:1]]
    candidates += [2**power for power in range(5, 21)] + [context, round(context / factor)]
    for original in candidates:
        smooth = np.clip((original / lengths - LOW) / (HIGH - LOW), 0, 1)
        made = 1 / ((1 - smooth) / factor + smooth)
        if np.allclose(made, factors, rtol=1e-4):
            return {
                "rope_type": "llama3",
                "factor": float(str(np.float32(factor))),
                "low_freq_factor": LOW,
                "high_freq_factor": HIGH,
                "original_max_position_embeddings": original,
            }
    return None


def _plain(values: FloatArray) -> list[float]:
    return [float(str(value)) for value in values]


def _unknown(read: Metadata, where: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"how positions are scaled cannot be told from the file: {why}",
        path=read.base.path,
        where=where,
        remedy="Merge into GGUF",
    )
