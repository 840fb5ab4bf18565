"""The architectures the engine can run: one file each, and one line each in the table below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.models.llama import Llama
from studio.engine.models.qwen2 import Qwen2
from studio.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.contracts import BaseModel
    from studio.engine.model import Model

ARCHITECTURES: dict[str, Callable[[BaseModel], Model]] = {
    "llama": Llama,
    "qwen2": Qwen2,
}
"""By the value of ``general.architecture``."""


def model_for(base: BaseModel) -> Model:
    """Read the base's hyperparameters. Raises `UnsupportedError`, or `FormatError` naming the key."""
    if base.architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UnsupportedError(
            f"the engine cannot run the architecture {base.architecture!r}",
            path=base.path,
            where="general.architecture",
            remedy=f"It runs {known}; inspecting and stacking need no engine",
        )
    return ARCHITECTURES[base.architecture](base)
