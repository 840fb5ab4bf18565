"""What can be chosen of a merge, and what it tells when it is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from studio.contracts import Exported
from studio.formats.quantisation_mixes import MIXES
from studio.lora.merge_plan import KEEP

if TYPE_CHECKING:
    from studio.lora.kept_delta import KeptDelta


@dataclass(frozen=True)
class MergeOptions:
    """How a merged file is written; plain values, as a form or the command line gives them."""

    type: str = field(
        default=KEEP,
        metadata={
            "help": "keep leaves every tensor the type it has; the others are llama.cpp's.",
            "choices": (KEEP, *MIXES),
        },
    )
    rounding: Literal["auto", "nearest", "unbiased", "calibrated"] = field(
        default="auto",
        metadata={
            "help": "How quantised weights are rounded. auto is calibrated where types are kept.",
            "choices": ("auto", "nearest", "unbiased", "calibrated"),
        },
    )
    calibration: str = field(
        default="",
        metadata={"help": "A text to calibrate on; without one the blend writes its own."},
    )
    budget: float = field(
        default=1.0,
        metadata={
            "help": "How large the file may become, as a multiple of the base: the weights whose delta "
            "suffers most get a finer type.",
            "range": (1.0, 8.0),
        },
    )
    imatrix: str = field(
        default="",
        metadata={"help": "An importance matrix of llama.cpp, for weights that are quantised anew."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of what is random.", "range": (0, 2**31 - 1)})


@dataclass(frozen=True)
class Merged(Exported):
    """What a merge wrote.

    Attributes
    ----------
    kept
        How much of the delta each quantised module keeps, in the order of the file.
    rounding
        How quantised weights were rounded.
    """

    kept: tuple[KeptDelta, ...] = ()
    rounding: str = "nearest"
