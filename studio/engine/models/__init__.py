"""The architectures the engine can run: one file each, and one line each in the table below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.models.experts import Mixture
from studio.engine.models.gemma2 import Gemma2
from studio.engine.models.gemma3 import Gemma3
from studio.engine.models.gpt2 import Gpt2
from studio.engine.models.granite import Granite
from studio.engine.models.llama import Llama
from studio.engine.models.olmo2 import Olmo2
from studio.engine.models.phi3 import Phi3
from studio.engine.models.qwen2 import Qwen2
from studio.engine.models.qwen2moe import Qwen2Moe
from studio.engine.models.qwen3 import Qwen3
from studio.engine.models.qwen3moe import Qwen3Moe
from studio.engine.models.stablelm import Stablelm
from studio.engine.models.starcoder2 import Starcoder2
from studio.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.contracts import BaseModel
    from studio.engine.model import Model


def llama(base: BaseModel) -> Model:
    """Make a llama, or a mixtral, which goes by the same name."""
    return Mixture(base) if base.metadata.get("llama.expert_count") else Llama(base)


ARCHITECTURES: dict[str, Callable[[BaseModel], Model]] = {
    "gemma2": Gemma2,
    "gemma3": Gemma3,
    "gpt2": Gpt2,
    "granite": Granite,
    "llama": llama,
    "olmo2": Olmo2,
    "phi3": Phi3,
    "qwen2": Qwen2,
    "qwen2moe": Qwen2Moe,
    "qwen3": Qwen3,
    "qwen3moe": Qwen3Moe,
    "stablelm": Stablelm,
    "starcoder2": Starcoder2,
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
