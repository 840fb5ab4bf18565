"""The linter: what an adapter's file would do in other programs, where that is not what it means.

Each rule is one function from what is known to a finding. What they say of other programs was read in their
sources or seen: llama.cpp's ``llama-adapter.cpp``, ``llama-graph.cpp`` and ``convert_lora_to_gguf.py``,
PEFT's ``lora/layer.py``, MLX-LM's ``tuner/lora.py``, oxillama's ``lora`` module. docs/formats.md has the
table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.contracts import Finding
from studio.engine.model import EMBEDDING, HEAD
from studio.lora.adapter import Adapter, listing
from studio.lora.dora import DoraAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.contracts import BaseModel
    from studio.lora.dora import AnyAdapter

EXPORT = "Export the blend with the studio: its stacked adapter carries the scales in its factors"


@dataclass(frozen=True)
class Subject:
    """What the rules look at.

    Attributes
    ----------
    adapter
        The factors that act.
    is_dora
        Whether magnitudes act, too.
    base
        The base, if one is open.
    unmatched
        The modules that do not act, by name.
    """

    adapter: Adapter
    is_dora: bool
    base: BaseModel | None
    unmatched: tuple[str, ...]

    @property
    def ties_output(self) -> bool:
        """Whether the base's output is its embedding."""
        return self.base is not None and HEAD not in self.base.tensors


def lint(adapter: AnyAdapter, base: BaseModel | None, unmatched: tuple[str, ...]) -> tuple[Finding, ...]:
    """Return what its format told of an adapter and what the rules find, the gravest first."""
    low_rank = adapter.low_rank if isinstance(adapter, DoraAdapter) else adapter
    subject = Subject(low_rank, isinstance(adapter, DoraAdapter), base, unmatched)
    found = [*low_rank.findings, *(finding for rule in RULES if (finding := rule(subject)) is not None)]
    grades = ("error", "warning", "info")
    return tuple(sorted(found, key=lambda finding: grades.index(finding.severity)))


def dora(subject: Subject) -> Finding | None:
    """Tell of DoRA: a program that reads A and B alone gives another model."""
    if not subject.is_dora:
        return None
    return Finding(
        "dora",
        "warning",
        "It is DoRA: its rows have magnitudes, which act at any scale but 0 and are no low-rank delta",
        (
            ("llama.cpp", "its converter stops at the magnitudes; without them A and B give another model"),
            ("oxillama", "reads A and B alone, which gives another model"),
        ),
        "Merge it into its base, which is exact; a stacked adapter can only approximate it, by svd",
    )


def rslora(subject: Subject) -> Finding | None:
    """Tell of rsLoRA, which is too weak by sqrt(rank) once it is taken for plain LoRA."""
    modules = [name for name, pair in subject.adapter.factors.items() if pair.rank_stabilised]
    if not modules:
        return None
    weakest = math.sqrt(max(subject.adapter.rank(module) for module in modules))
    return Finding(
        "rslora",
        "warning",
        f"It is rsLoRA: {len(modules)} modules are scaled by alpha / sqrt(rank)",
        (
            (
                "llama.cpp",
                f"its converter writes alpha as it is, so the adapter is up to {weakest:.3g} times too weak",
            ),
            ("oxillama", "scales by alpha / rank, as above"),
        ),
        EXPORT,
        tuple(modules),
    )


def alpha_pattern(subject: Subject) -> Finding | None:
    """Tell of several alphas, of which GGUF has one a file."""
    alphas = sorted({pair.alpha for pair in subject.adapter.factors.values()})
    if len(alphas) < 2:
        return None
    return Finding(
        "alpha-pattern",
        "warning",
        f"Its modules differ in alpha, from {alphas[0]:g} to {alphas[-1]:g}",
        (
            ("llama.cpp", "its converter writes the one alpha of the configuration for all modules"),
            ("oxillama", "has one alpha a file"),
            ("MLX", "has one scale a file"),
        ),
        EXPORT,
    )


def unequal_ranks(subject: Subject) -> Finding | None:
    """Tell of several ranks, which readers of one rank a file scale wrongly."""
    ranks = subject.adapter.ranks
    if len(ranks) < 2:
        return None
    return Finding(
        "unequal-ranks",
        "warning",
        f"Its modules differ in rank, from {ranks[0]} to {ranks[-1]}",
        (
            ("oxillama", "scales all modules by the one rank of the metadata"),
            ("MLX", "makes all modules of the one rank of its configuration"),
            ("zerfoo", "refuses a rank other than the one of the metadata"),
        ),
        "Export the blend with all ranks padded to the largest one",
    )


def silent_alpha(subject: Subject) -> Finding | None:
    """Tell of an alpha of 0, which silences an adapter in PEFT and means 1 to llama.cpp."""
    modules = [name for name, pair in subject.adapter.factors.items() if pair.alpha == 0]
    if not modules:
        return None
    return Finding(
        "zero-alpha",
        "warning",
        f"Alpha is 0, so {len(modules)} modules are silent",
        (("llama.cpp", "reads an alpha of 0 as an effective scale of 1: there the adapter sounds"),),
        "Set alpha in the adapter's configuration",
        tuple(modules),
    )


def tied_output(subject: Subject) -> Finding | None:
    """Tell of an adapter on an output that the base does not have by itself."""
    if HEAD not in subject.adapter.factors or not subject.ties_output:
        return None
    return Finding(
        "tied-output",
        "warning",
        "It acts on the output of a base that ties it to the embedding; here it acts on the output alone",
        (("llama.cpp", "its converter and its loader refuse the adapter"),),
        "Merge it: the merged model has an output of its own",
        (HEAD,),
    )


def tied_embedding(subject: Subject) -> Finding | None:
    """Tell of an adapter on an embedding that is the output as well."""
    factors = subject.adapter.factors
    if EMBEDDING not in factors or not subject.ties_output:
        return None
    also = " and its output" if HEAD in factors else " alone"
    return Finding(
        "tied-embedding",
        "warning",
        f"It acts on the embedding{also} of a base that ties the two",
        (
            ("llama.cpp", "aborts at the first token: it takes the adapter for the output's, too"),
            ("MLX", "applies it to the output as well"),
            ("PEFT", "applies it to the embedding alone, unless ensure_weight_tying is set"),
        ),
        "Merge it: the merged model has an output of its own",
        (EMBEDDING,),
    )


def unmatched_modules(subject: Subject) -> Finding | None:
    """Tell of modules without a place, which others drop, or refuse the file for."""
    names = subject.adapter.unmapped if subject.base is None else subject.unmatched
    if not names:
        return None
    return Finding(
        "unmatched",
        "warning",
        f"{len(names)} of its modules do not act: {listing(names, 3)}",
        (
            ("llama.cpp", "refuses an adapter with modules that its base lacks"),
            ("MLX", "drops what it has no place for, without a word"),
        ),
        "Open the base it was trained on" if subject.base else "Look at it with its base",
        tuple(names),
    )


RULES: tuple[Callable[[Subject], Finding | None], ...] = (
    dora,
    rslora,
    alpha_pattern,
    unequal_ranks,
    silent_alpha,
    tied_output,
    tied_embedding,
    unmatched_modules,
)
