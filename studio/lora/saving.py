"""One adapter saved as llama.cpp has it: a GGUF file that it, and the studio, load again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from studio.engine.model import EMBEDDING
from studio.errors import MismatchError, SaveError
from studio.formats.gguf_writer import write_gguf
from studio.lora.adapter import Adapter
from studio.lora.injection import adapter_of

if TYPE_CHECKING:
    from studio.contracts import FloatArray, MetadataValue
    from studio.lora.layers import Model

SUFFIX = ".gguf"


def save_adapter(path: str | Path, source: Adapter | Model, *, architecture: str | None = None) -> None:
    """Write an adapter, or what the LoRA layers of a model hold, as a GGUF adapter in F32.

    The file has one alpha; where modules are scaled differently the difference goes into B.

    Parameters
    ----------
    path
        It must end in ``.gguf``.
    source
        An adapter, or a model after `inject_lora`.
    architecture
        The base's, such as ``llama``; needed where the source does not know it.

    Raises
    ------
    SaveError
        The name has another suffix, no architecture is known, or the file cannot be written; what stood at
        the path is unchanged.
    MismatchError
        The model has no LoRA, or the adapter's rows are not known to be in the base's order.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise SaveError("an adapter is saved as GGUF", path=path, remedy=f"Name a file that ends in {SUFFIX}")
    adapter = source if isinstance(source, Adapter) else adapter_of(source, path.stem)
    if adapter.rows_as_stored:
        raise MismatchError(
            "the adapter was read without a base, so its Q and K rows may be in another order",
            path=adapter.source,
            remedy="Load it for its base, then save it",
        )
    architecture = architecture or adapter.architecture
    if architecture is None:
        raise SaveError(
            "the architecture that the adapter is for is not known", path=path, remedy="Give architecture="
        )
    strengths = {module: pair.scaling * pair.rank for module, pair in adapter.factors.items()}
    alpha = next((strength for strength in strengths.values() if strength), 1.0)  # 0 means 1 to llama.cpp
    tensors: dict[str, FloatArray] = {}
    for module, pair in adapter.factors.items():
        fold = strengths[module] / alpha
        a, b = pair.a, pair.b if fold == 1 else (pair.b * np.float64(fold)).astype(np.float32)
        if module == EMBEDDING:
            a, b = b, a.T  # llama.cpp has (vocab, r) and (embd, r) there
        tensors[f"{module}.lora_a"], tensors[f"{module}.lora_b"] = a, b
    metadata: dict[str, MetadataValue] = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "general.name": adapter.name,
        "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
    }
    write_gguf(path, metadata, tensors, protected=[adapter.source] if adapter.source else [])
