"""How an adapter fits a base: what matched, what did not, and how strong it is."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, overload

from studio.engine.model import EMBEDDING, HEAD
from studio.errors import FormatError, MismatchError
from studio.lora.adapter import Adapter, LoraFactors, listing
from studio.lora.analysis import BlendNorms
from studio.lora.dora import DoraAdapter
from studio.lora.lint import lint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import BaseModel, Finding, LowRankAdapter
    from studio.lora.dora import AnyAdapter


@dataclass(frozen=True)
class AdapterReport:
    """What an adapter is, and how much of it acts on a base.

    Attributes
    ----------
    name
        The adapter's name.
    format
        The format it came in.
    modules
        How many modules it has of its own, those that could not be mapped included.
    matched
        How many of them act on the base; None where there is no base.
    base_modules
        How many weights of the base an adapter could act on; None where there is no base.
    covered
        How many of those this one acts on; None where there is no base.
    unmatched
        The modules that do not act, by name.
    ranks
        The different ranks, ascending.
    alphas
        The different alphas, ascending.
    norms
        ||dW||_F at scale 1 of each module that acts; empty where that takes a base and there is none.
    notes
        What the user should know of how it was read, one sentence each.
    findings
        What the linter says: where other programs read the file in another way. The gravest first.
    """

    name: str
    format: str
    modules: int
    matched: int | None
    base_modules: int | None
    covered: int | None
    unmatched: tuple[str, ...]
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    norms: Mapping[str, float]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


def adaptable_modules(base: BaseModel) -> tuple[str, ...]:
    """Return the base's weights that a LoRA can act on: linear weights in blocks, embeddings, output.

    A weight of experts is one module, of three dimensions; a norm can have one weight for each head.
    """
    return tuple(
        name
        for name, info in base.tensors.items()
        if len(info.shape) in (2, 3)
        and name.endswith(".weight")
        and not name.endswith("_norm.weight")
        and (name.startswith("blk.") or name in (EMBEDDING, HEAD))
    )


def describe(adapter: LowRankAdapter | DoraAdapter) -> AdapterReport:
    """Report on an adapter by itself."""
    return _report(as_adapter(adapter), base=None, unmatched=())


@overload
def bind(adapter: DoraAdapter, base: BaseModel) -> tuple[DoraAdapter, AdapterReport]: ...
@overload
def bind(adapter: LowRankAdapter, base: BaseModel) -> tuple[Adapter, AdapterReport]: ...
def bind(adapter: LowRankAdapter | DoraAdapter, base: BaseModel) -> tuple[AnyAdapter, AdapterReport]:
    """Fit an adapter to a base. A `DoraAdapter` reads each weight that it acts on, once.

    Returns
    -------
    Adapter or DoraAdapter
        The adapter with the modules that the base has; the very same object where it has all of them.
    AdapterReport
        What matched, and every module that did not, by name.

    Raises
    ------
    MismatchError
        The adapter is for another architecture, a module has another shape, or nothing matched.
    FormatError
        The adapter is empty.
    """
    whole = as_adapter(adapter)
    adapter = whole.low_rank if isinstance(whole, DoraAdapter) else whole
    _check_architecture(adapter, base)
    shapes = _shapes(base)
    for module, factors in adapter.factors.items():
        if factors.shape != shapes.get(module, factors.shape):
            raise MismatchError(
                f"the adapter is for a weight {factors.shape}, the base has {shapes[module]}",
                path=adapter.source,
                where=module,
                remedy=f"Open the base it was trained on; {base.name} has other sizes",
            )
    matched = {module: factors for module, factors in adapter.factors.items() if module in shapes}
    unmatched = tuple(module for module in adapter.factors if module not in shapes)
    if not matched:
        missing = unmatched + adapter.unmapped
        if not missing:
            raise FormatError(
                "the adapter holds no modules", path=adapter.source, remedy="Save it again after training"
            )
        raise MismatchError(
            f"0 of {len(missing)} modules matched {base.name} ({base.architecture}): {listing(missing, 3)}",
            path=adapter.source,
            remedy="Open the base it was trained on",
        )
    fitting = adapter.with_factors(matched) if unmatched else adapter
    bound = whole.for_base(fitting, base) if isinstance(whole, DoraAdapter) else fitting
    return bound, _report(bound, base, unmatched)


def _shapes(base: BaseModel) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight that an adapter can act on, an output tied to the embedding too."""
    shapes = {module: base.tensors[module].shape for module in adaptable_modules(base)}
    if EMBEDDING in shapes:
        shapes.setdefault(HEAD, shapes[EMBEDDING])
    return shapes


def _check_architecture(adapter: Adapter, base: BaseModel) -> None:
    if adapter.architecture is not None and adapter.architecture != base.architecture:
        raise MismatchError(
            f"the adapter is for architecture {adapter.architecture}, {base.name} is {base.architecture}",
            path=adapter.source,
            remedy="Open the base it was trained on",
        )
    if adapter.rows_as_stored:
        raise MismatchError(
            "the adapter was read without a base, so its Q and K rows may be in another order",
            path=adapter.source,
            remedy="Load it again for this base",
        )


def _report(adapter: AnyAdapter, base: BaseModel | None, unmatched: tuple[str, ...]) -> AdapterReport:
    low_rank = adapter.low_rank if isinstance(adapter, DoraAdapter) else adapter
    notes = list(adapter.notes)
    if base is not None and HEAD in low_rank.factors and HEAD not in base.tensors:
        notes.append("The base ties its output to its embedding. The adapter acts on its output alone")
    matched = len(low_rank.factors)
    adaptable = () if base is None else adaptable_modules(base)
    return AdapterReport(
        name=adapter.name,
        format=adapter.format,
        modules=matched + len(unmatched) + len(adapter.unmapped),
        matched=None if base is None else matched,
        base_modules=None if base is None else len(adaptable),
        covered=None if base is None else sum(module in low_rank.factors for module in adaptable),
        unmatched=(*unmatched, *adapter.unmapped),
        ranks=low_rank.ranks,
        alphas=tuple(sorted({factors.alpha for factors in low_rank.factors.values()})),
        norms=MappingProxyType(_norms(adapter, base)),
        notes=tuple(notes),
        findings=lint(adapter, base, (*unmatched, *adapter.unmapped)),
    )


def _norms(adapter: AnyAdapter, base: BaseModel | None) -> dict[str, float]:
    """Return ||dW||_F at scale 1 by module; nothing for DoRA without its base."""
    if isinstance(adapter, DoraAdapter):
        return {} if base is None else {module: adapter.norm_at(module, 1.0) for module in adapter.modules}
    own_norms = BlendNorms.of({adapter.name: adapter}, adapter.modules).own_norms()[:, 0]
    return dict(zip(adapter.modules, map(float, own_norms), strict=True))


@overload
def as_adapter(adapter: DoraAdapter) -> DoraAdapter: ...
@overload
def as_adapter(adapter: LowRankAdapter) -> Adapter: ...
def as_adapter(adapter: LowRankAdapter | DoraAdapter) -> AnyAdapter:
    """Give a stranger's low-rank adapter the form that the rest of the room works with."""
    if isinstance(adapter, Adapter | DoraAdapter):
        return adapter
    return Adapter(
        adapter.name,
        {
            module: LoraFactors(pair.a, pair.b, alpha=pair.scaling * pair.a.shape[-2])
            for module, pair in adapter.factors.items()
        },
    )
