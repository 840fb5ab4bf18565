"""``adapter_config.json`` as MLX-LM writes it.

https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/tuner/utils.py
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studio.api import FormatError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

_SAVE_AGAIN = "Save the adapter again with MLX-LM"


@dataclass(frozen=True)
class MlxConfig:
    """What the configuration says.

    Attributes
    ----------
    rank
        The rank of all modules.
    scale
        What B A is multiplied by, as it is: not divided by the rank.
    old_alpha
        The alpha of early versions, which scaled by ``scale * alpha / rank``; None in files of others.
    is_dora
        Every module has a magnitude beside its pair.
    """

    rank: int
    scale: float
    old_alpha: float | None
    is_dora: bool


def read_fields(path: Path) -> dict[str, Any]:
    """Read the JSON object. Raises `FormatError` where it is none."""
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(
            f"the configuration cannot be read: {error}", path=path, remedy=_SAVE_AGAIN
        ) from None
    if not isinstance(fields, dict):
        raise FormatError("the configuration is no JSON object", path=path, remedy=_SAVE_AGAIN)
    return fields


def read_config(path: Path) -> MlxConfig:
    """Read the configuration.

    Raises
    ------
    FormatError
        It is damaged.
    UnsupportedError
        It is of a model that was trained whole.
    """
    fields = read_fields(path)
    kind = fields.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise UnsupportedError(
            f"the fine-tune is of type {str(kind)[:40]!r}, not lora or dora",
            path=path,
            where="fine_tune_type",
            remedy="Fuse it with MLX-LM and open the fused model",
        )
    parameters = fields.get("lora_parameters")
    if not isinstance(parameters, dict):
        raise FormatError("it holds no object", path=path, where="lora_parameters", remedy=_SAVE_AGAIN)
    rank = parameters.get("rank")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise FormatError(
            f"the rank is {str(rank)[:40]!r}, not a whole number from 1",
            path=path,
            where="lora_parameters.rank",
            remedy=_SAVE_AGAIN,
        )
    alpha = parameters.get("alpha")
    return MlxConfig(
        rank=rank,
        scale=_number(parameters.get("scale"), path, "lora_parameters.scale"),
        old_alpha=None if alpha is None else _number(alpha, path, "lora_parameters.alpha"),
        is_dora=kind == "dora",
    )


def _number(value: Any, path: Path, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise FormatError(
            f"it is {str(value)[:40]!r}, not a number from 0", path=path, where=where, remedy=_SAVE_AGAIN
        )
    return float(value)
