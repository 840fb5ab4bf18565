"""Says in words whether a merged file is a good way to ship a blend, or the stacked adapter is the better."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.lora.kept_delta import KeptDelta

MOST_KEPT = 0.8
"""How much of the delta a module keeps where the merge can be said to keep it."""

STACK_INSTEAD = "A stacked adapter beside the base loses nothing and is the better thing to ship"


def verdict(kept: Sequence[KeptDelta]) -> str:
    """Judge a merge by what is left of the delta in its quantised modules.

    Parameters
    ----------
    kept
        How much of the delta each quantised module keeps; empty where none is quantised.
    """
    if not kept:
        return "No merged weight is quantised, so rounding loses nothing of the blend."
    type_name = Counter(module.type_name for module in kept).most_common(1)[0][0]
    share = float(np.median([module.kept for module in kept]))
    error = float(np.median([module.error for module in kept]))
    measured = f"the median module keeps {share:.0%} of its delta, with an error {error:.1f} times as large"
    if share < MOST_KEPT:
        return (
            f"Rounding to {type_name} loses the blend: {measured}. {STACK_INSTEAD}; or merge with "
            "unbiased or calibrated rounding, or to a finer type."
        )
    if error > 1:
        return f"The blend is there, under the noise of rounding to {type_name}: {measured}. {STACK_INSTEAD}."
    return f"The merge keeps the blend: {measured}."
