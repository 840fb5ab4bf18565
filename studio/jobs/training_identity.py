"""What makes a run of training the one it is: a checkpoint is continued by the same run alone."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING

from studio.contracts import LowRankAdapter
from studio.learning.options import WITHOUT_EFFECT
from studio.session.fingerprint import base_fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studio.contracts import BlendState, DeltaAdapter, Example, Optimisation, TrainingRequest
    from studio.learning.options import LoraOptions


def run_identity(
    request: TrainingRequest, options: LoraOptions, optimisation: Optimisation, trainer: str
) -> dict[str, str]:
    """Return all that the numbers of a run follow from, by names that people read."""
    chosen = {name: value for name, value in asdict(options).items() if name not in WITHOUT_EFFECT}
    return {
        "base": base_fingerprint(*request.base.files),
        "data": _of_examples(request.examples),
        "validation": _of_examples(request.validation),
        "first adapter": _of_adapters({} if request.start is None else {"": request.start}),
        "adapters beside": _of_adapters(request.beside),
        "their scales": _of_blend(request.state),
        "trainer": trainer,
        **{name: str(value) for name, value in chosen.items()},
        "optimiser": optimisation.optimiser.name,
        **{f"optimiser's {name}": str(value) for name, value in asdict(optimisation.options).items()},
    }


def _of_examples(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr((tuple(example.tokens), tuple(example.weights))).encode())
    return f"{len(examples):,} examples ({digest.hexdigest()[:16]})"


def _of_adapters(adapters: Mapping[str, DeltaAdapter]) -> str:
    digest = hashlib.sha256()
    for key, adapter in adapters.items():
        digest.update(key.encode())
        if isinstance(adapter, LowRankAdapter):
            for module, pair in adapter.factors.items():
                digest.update(f"{module} {pair.scaling!r}".encode() + pair.a.tobytes() + pair.b.tobytes())
    return f"{len(adapters)} ({digest.hexdigest()[:16]})" if adapters else "none"


def _of_blend(state: BlendState) -> str:
    said = [f"{channel.key} {channel.scale!r} {channel.gains.by_module!r}" for channel in state.channels]
    return "; ".join(said) or "none"
