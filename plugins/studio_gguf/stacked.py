"""Exports the blend as one adapter that llama.cpp loads: exact, since factors concatenate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from studio.api import (
    Adapter,
    DoraAdapter,
    LowRankAdapter,
    MismatchError,
    Progress,
    ScaledDelta,
    StudioError,
    UnsupportedError,
    listing,
    weight_shape,
    write_gguf_in_steps,
)
from studio_gguf.keys import ADAPTER_TYPE, ALPHA, ARCHITECTURE, EMBEDDING, NAME, SUFFIX_A, SUFFIX_B, TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from studio.api import BlendChannel, DeltaAdapter, ExportRequest, FloatArray, MetadataValue, Work

SOURCES = "lora_studio.stack.sources"
SCALES = "lora_studio.stack.scales"

Part: TypeAlias = "tuple[LowRankAdapter, BlendChannel]"
"""An audible adapter, and its scale in each module."""


@dataclass(frozen=True)
class StackedOptions:
    """How the stacked adapter is written."""

    type: Literal["F32", "F16"] = field(
        default="F32",
        metadata={
            "help": "F32 gives the blend to the last digit; F16 halves the file and rounds at the fourth.",
            "choices": ("F32", "F16"),
        },
    )


class StackedExporter:
    """Writes sum_i s_i B_i A_i as one pair [B_1 s_1 | B_2 s_2 | ...] and [A_1; A_2; ...] a module."""

    name = "stacked adapter (GGUF)"
    suffix = ".gguf"
    Options = StackedOptions

    def export(self, request: ExportRequest, path: Path, options: StackedOptions) -> Work:
        """Write the blend atomically; the base and the adapters' own files are never overwritten.

        Raises
        ------
        StudioError
            Nothing is audible, an adapter does not show its factors, or one does not fit the base.
        SaveError
            The target is in use, or the file cannot be written.
        """
        parts = _audible_parts(request)
        modules = _modules(parts, request)
        alpha = choose_alpha(parts, modules)
        tensors: dict[str, FloatArray] = {}
        for done, module in enumerate(modules):
            yield Progress(done, 7 * len(modules), f"Stacking {module}")  # writing takes 3 steps a tensor
            a, b = stack_module(parts, module, alpha)
            if module == EMBEDDING:
                a, b = b, a.T  # llama.cpp wants (vocab, r) and (embd, r)
            tensors[module + SUFFIX_A], tensors[module + SUFFIX_B] = a, b
        in_use = [source for adapter in request.adapters.values() if (source := _source(adapter))]
        writing = write_gguf_in_steps(
            path,
            _metadata(request, parts, alpha),
            tensors,
            tensor_type=options.type,
            protected=[*request.base.files, *in_use],
        )
        for step in writing:
            yield Progress(len(modules) + step.done, len(modules) + step.total, step.message)
        return path


def choose_alpha(parts: Sequence[Part], modules: Sequence[str]) -> float:
    """Choose the one alpha of the file so that the weights of B come close to 1, where F16 is at its best.

    It is the largest rank times a power of two, so that where all ranks are equal B keeps its digits and only
    its exponents move.
    """
    pairs = [
        (pair, channel.scale_of(module))
        for adapter, channel in parts
        for module, pair in adapter.factors.items()
    ]
    rank = max(_rank(parts, module) for module in modules)
    largest = max(float(np.abs(pair.b).max()) * abs(scale * pair.scaling) for pair, scale in pairs)
    exponent = math.frexp(largest)[1]
    return math.ldexp(rank, min(max(exponent, -60), 60))  # far from where float32 loses digits


def stack_module(parts: Sequence[Part], module: str, alpha: float) -> tuple[FloatArray, FloatArray]:
    """Put the factors of a module side by side: A ``(R, in)`` and B ``(out, R)``, alpha / R * B A the sum.

    Those of E experts are ``(E, R, in)`` and ``(E, out, R)``, as llama.cpp wants them.
    Every reader of such a file scales by alpha / R, so B takes the effective scales times R / alpha.
    """
    pairs = [
        (adapter.factors[module], channel.scale_of(module))
        for adapter, channel in parts
        if module in adapter.factors
    ]
    a = np.concatenate([pair.a for pair, _ in pairs], axis=-2)
    fold = a.shape[-2] / alpha
    b = np.concatenate([pair.b * np.float64(scale * pair.scaling * fold) for pair, scale in pairs], axis=-1)
    with np.errstate(over="ignore"):  # the writer refuses infinity by name
        return a, b.astype(np.float32)


def _audible_parts(request: ExportRequest) -> list[Part]:
    parts: list[Part] = []
    for channel in request.state.channels:
        adapter = request.adapters[channel.key]
        if isinstance(adapter, ScaledDelta):
            raise UnsupportedError(
                f"{adapter.name} is DoRA: what it adds is of full rank, so no stacked adapter can be it",
                remedy="Merge it into its base, which is exact, or stack it by the method svd",
            )
        if not isinstance(adapter, LowRankAdapter):
            raise UnsupportedError(
                f"{adapter.name} shows no low-rank factors, so it cannot become part of a stacked adapter",
                remedy="Mute it or remove it from the stack",
            )
        parts.append((adapter, channel))
    if not parts:
        raise StudioError(
            "the blend is silent: no adapter is audible", remedy="Add an adapter, unmute one or raise a scale"
        )
    return parts


def _modules(parts: Sequence[Part], request: ExportRequest) -> list[str]:
    """Return the modules that some adapter acts on, in the base's order, once all are known to fit."""
    shapes = {module: info.shape for module, info in request.base.tensors.items()}
    for adapter, _ in parts:
        missing = [module for module in adapter.factors if module not in shapes]
        if missing:
            raise MismatchError(
                f"{adapter.name} acts on modules that {request.base.name} lacks: {listing(missing, 3)}",
                remedy="Mute it; llama.cpp refuses an adapter for weights that its base lacks",
            )
        for module, pair in adapter.factors.items():
            shape = weight_shape(pair)
            if shape != shapes[module]:
                raise MismatchError(
                    f"{adapter.name} is for a weight {shape}, {request.base.name} has {shapes[module]}",
                    where=module,
                    remedy="Load an adapter of this base",
                )
    return [module for module in shapes if any(module in adapter.factors for adapter, _ in parts)]


def _rank(parts: Sequence[Part], module: str) -> int:
    return sum(adapter.factors[module].a.shape[-2] for adapter, _ in parts if module in adapter.factors)


def _metadata(request: ExportRequest, parts: Sequence[Part], alpha: float) -> dict[str, MetadataValue]:
    return {
        ARCHITECTURE: request.base.architecture,
        TYPE: "adapter",
        ADAPTER_TYPE: "lora",
        ALPHA: alpha,
        NAME: " + ".join(f"{adapter.name}*{channel.scale:.4g}" for adapter, channel in parts),
        SOURCES: [source.name if (source := _source(adapter)) else adapter.name for adapter, _ in parts],
        SCALES: [repr(channel.scale) for _, channel in parts],
    }


def _source(adapter: DeltaAdapter) -> Path | None:
    return adapter.source if isinstance(adapter, Adapter | DoraAdapter) else None
