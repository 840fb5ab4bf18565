"""Exports the blend as one adapter that llama.cpp loads: exact, since factors concatenate."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from studio.api import (
    DeltaPart,
    MismatchError,
    Progress,
    check_modelfile,
    exported_modules,
    exported_parts,
    files_in_use,
    join_parts,
    pad_rank,
    predict_factors,
    source_name,
    write_gguf_in_steps,
    write_modelfile,
)
from studio_gguf.keys import (
    ADAPTER_TYPE,
    ALPHA,
    ARCHITECTURE,
    EMBEDDING,
    NAME,
    OUTPUT,
    SUFFIX_A,
    SUFFIX_B,
    TYPE,
    UNIFORM_ALPHA,
    UNIFORM_RANK,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from studio.api import ExportRequest, FloatArray, MetadataValue, Prediction, Work

SOURCES = "lora_studio.stack.sources"
SCALES = "lora_studio.stack.scales"
GAINS = "lora_studio.stack.gains"
METHOD = "lora_studio.stack.method"
"""What the file was made of: names, scales and gains by module of the audible adapters, and the method."""


@dataclass(frozen=True)
class StackedOptions:
    """How the stacked adapter is written."""

    type: Literal["F32", "F16", "BF16", "Q8_0"] = field(
        default="F32",
        metadata={
            "help": "F32 gives the blend to the last digit; F16 halves the file and rounds at the fourth, "
            "BF16 at the third; Q8_0 quantises what has rows of whole blocks.",
            "choices": ("F32", "F16", "BF16", "Q8_0"),
        },
    )
    uniform_rank: bool = field(
        default=False,
        metadata={
            "help": "Fill all modules up to one rank with zeros, and name that rank, for readers that take "
            "it from the metadata (oxillama)."
        },
    )
    modelfile: bool = field(
        default=False, metadata={"help": "Write a Modelfile for Ollama beside it: the base and this adapter."}
    )


class StackedExporter:
    """Writes sum_i s_i B_i A_i as one pair [B_1 s_1 | B_2 s_2 | ...] and [A_1; A_2; ...] a module."""

    name = "stacked adapter (GGUF)"
    suffix = ".gguf"
    Options = StackedOptions
    summary = "One small file that llama.cpp and Ollama put on the base; it loses nothing."

    def predict(
        self, request: ExportRequest, ranks: Mapping[str, int], options: StackedOptions
    ) -> Prediction:
        """Tell how large the adapter will be."""
        if options.uniform_rank:
            ranks = dict.fromkeys(ranks, max(ranks.values(), default=0))
        return predict_factors(request, ranks, options.type)

    def export(self, request: ExportRequest, path: Path, options: StackedOptions) -> Work:
        """Write the blend atomically; the base and the adapters' own files are never overwritten.

        Raises
        ------
        StudioError
            Nothing is audible, an adapter does not show its factors, or one does not fit the base.
        SaveError
            The target is in use, or the file cannot be written.
        """
        modules = exported_modules(request)
        refuse_what_llama_cpp_refuses(request, modules)
        if options.modelfile:
            check_modelfile(path)
        parts: dict[str, tuple[DeltaPart, ...]] = {}
        for done, module in enumerate(modules):
            yield Progress(done, 8 * len(modules), f"Combining {module}")
            parts[module] = exported_parts(request, module)
        rank = max(map(_rank, parts.values())) if options.uniform_rank else None
        alpha = choose_alpha(parts.values())
        tensors: dict[str, FloatArray] = {}
        for done, module in enumerate(modules, start=len(modules)):
            yield Progress(done, 8 * len(modules), f"Stacking {module}")  # writing takes 3 steps a tensor
            a, b = stack_module(parts[module], alpha, rank)
            if module == EMBEDDING:
                a, b = b, a.T  # llama.cpp wants (vocab, r) and (embd, r)
            tensors[module + SUFFIX_A], tensors[module + SUFFIX_B] = a, b
        writing = write_gguf_in_steps(
            path,
            _metadata(request, alpha, rank),
            tensors,
            tensor_type=options.type,
            protected=files_in_use(request),
        )
        for step in writing:
            yield Progress(2 * len(modules) + step.done, 2 * len(modules) + step.total, step.message)
        if options.modelfile:
            write_modelfile(path, request.base, adapter=path)


def refuse_what_llama_cpp_refuses(request: ExportRequest, modules: Sequence[str]) -> None:
    """Refuse an embedding that is the output as well, on which llama.cpp's whole process ends.

    It finds an adapter by the weight it multiplies with. A base without an output of its own multiplies the
    last hidden states with its embedding, to which the adapter of a look-up does not fit
    (``llm_graph_context::build_lora_mm``).
    """
    if EMBEDDING in modules and OUTPUT not in request.base.tensors:
        raise MismatchError(
            f"{request.base.name} ties its output to its embedding, and llama.cpp breaks down on an adapter "
            "that acts on such an embedding",
            where=EMBEDDING,
            remedy="Merge the blend into the base, or export a PEFT directory",
        )


def choose_alpha(modules: Iterable[Sequence[DeltaPart]]) -> float:
    """Choose the one alpha of the file so that the weights of B come close to 1, where F16 is at its best.

    It is the largest rank times a power of two, so that where all ranks are equal B keeps its digits and only
    its exponents move.
    """
    modules = list(modules)
    largest = max(float(np.abs(part.b).max()) * abs(part.scale) for parts in modules for part in parts)
    exponent = math.frexp(largest)[1]
    # far from where float32 loses digits
    return math.ldexp(max(map(_rank, modules)), min(max(exponent, -60), 60))


def stack_module(
    parts: Sequence[DeltaPart], alpha: float, uniform_rank: int | None = None
) -> tuple[FloatArray, FloatArray]:
    """Put the factors of a module side by side: A ``(R, in)`` and B ``(out, R)``, alpha / R * B A the sum.

    Those of E experts are ``(E, R, in)`` and ``(E, out, R)``, as llama.cpp wants them.
    Every reader of such a file scales by alpha / R, so B takes the effective scales times R / alpha.
    """
    rank = _rank(parts)
    if uniform_rank is None:
        joined = join_parts(parts, alpha=alpha)
    else:
        joined = pad_rank(join_parts(parts, alpha=alpha * rank / uniform_rank), uniform_rank)
    return joined.a, joined.b


def _rank(parts: Sequence[DeltaPart]) -> int:
    return sum(part.a.shape[-2] for part in parts)


def _name(request: ExportRequest) -> str:
    """Say what the blend is; one adapter as it is keeps its name."""
    channels, name = request.state.channels, {key: one.name for key, one in request.adapters.items()}
    if len(channels) == 1 and channels[0].scale == 1 and not channels[0].gains.by_module:
        return name[channels[0].key]
    return " + ".join(f"{name[channel.key]}*{channel.scale:.4g}" for channel in channels)


def _metadata(request: ExportRequest, alpha: float, uniform_rank: int | None) -> dict[str, MetadataValue]:
    audible = [(request.adapters[channel.key], channel.scale) for channel in request.state.channels]
    metadata: dict[str, MetadataValue] = {
        ARCHITECTURE: request.base.architecture,
        TYPE: "adapter",
        ADAPTER_TYPE: "lora",
        ALPHA: alpha,
        NAME: _name(request),
        SOURCES: [source_name(adapter) for adapter, _ in audible],
        SCALES: [repr(scale) for _, scale in audible],
        GAINS: [json.dumps(dict(channel.gains.by_module)) for channel in request.state.channels],
        METHOD: request.combination.method.name if request.combination else "sum",
    }
    if uniform_rank is not None:
        metadata |= {UNIFORM_RANK: uniform_rank, UNIFORM_ALPHA: alpha}
    return metadata
