"""Which modules of a base are meant by the names of targets, by patterns, or by all of its linear weights."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from studio.errors import MismatchError
from studio.lora.report import adaptable_modules
from studio.lora.targets import layer_of, target_of, targets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel

ALL_LINEAR = "all-linear"
"""Every linear weight in the blocks, those of experts too; not what routes to experts, nor the output."""

ROUTERS = frozenset({"ffn_gate_inp", "ffn_gate_inp_shexp"})


def chosen_modules(base: BaseModel, targets: Sequence[str]) -> tuple[str, ...]:
    """Return the modules that targets mean, in the base's order.

    Parameters
    ----------
    base
        Whose modules.
    targets
        Each the name of a target (``attn_q``), a module (``blk.3.attn_q.weight``), a pattern of either with
        ``*``, ``?`` and ``[...]`` (``ffn_*``, ``blk.1?.*``), or ``all-linear``.

    Raises
    ------
    MismatchError
        There are none, or one means nothing that this base has.
    """
    modules = adaptable_modules(base)
    missing = [target for target in targets if not any(_means(target, module) for module in modules)]
    if missing or not targets:
        raise MismatchError(
            f"{base.name} has no {', '.join(missing)}" if missing else "no targets are named",
            remedy=f"Choose among {', '.join(targets_of(modules))}",
        )
    return tuple(module for module in modules if any(_means(target, module) for target in targets))


def _means(target: str, module: str) -> bool:
    name = target_of(module)
    if target == ALL_LINEAR:
        return layer_of(module) is not None and name not in ROUTERS
    return fnmatchcase(name, target) or fnmatchcase(module, target)
