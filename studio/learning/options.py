"""What can be chosen of a run of training: plain values, as a form or the command line gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from studio.learning.schedules import SCHEDULES, Schedule
from studio.lora.choosing import ALL_LINEAR
from studio.lora.initial import HIGHEST_RANK, Start


@dataclass(frozen=True)
class LoraOptions:
    """How an adapter is trained. Rank, targets and start are of new ones: another has its own."""

    rank: int = field(
        default=8, metadata={"help": "How many directions each weight learns.", "range": (1, HIGHEST_RANK)}
    )
    alpha: float = field(
        default=16.0, metadata={"help": "The delta is scaled by alpha / rank.", "range": (0.001, 65536.0)}
    )
    targets: str = field(
        default=ALL_LINEAR,
        metadata={"help": "Which weights: all-linear, or targets and patterns such as attn_q,ffn_*."},
    )
    rank_stabilised: bool = field(
        default=False, metadata={"help": "Scale by alpha / sqrt(rank) instead (rsLoRA)."}
    )
    start: Start = field(
        default="kaiming", metadata={"help": "How A starts; B is zero.", "choices": ("kaiming", "normal")}
    )
    steps: int = field(default=0, metadata={"help": "How many; 0 goes by epochs.", "range": (0, 10_000_000)})
    epochs: float = field(
        default=1.0, metadata={"help": "How often each example is seen.", "range": (0.001, 100_000.0)}
    )
    batch: int = field(default=1, metadata={"help": "Examples that run side by side.", "range": (1, 4096)})
    accumulation: int = field(default=1, metadata={"help": "Batches before each step.", "range": (1, 4096)})
    learning_rate: float = field(
        default=5e-4, metadata={"help": "The rate after warming up.", "range": (1e-9, 10.0)}
    )
    schedule: Schedule = field(
        default="cosine", metadata={"help": "How the rate falls.", "choices": SCHEDULES}
    )
    warm_up: float = field(
        default=0.05, metadata={"help": "Over which share of the steps the rate rises.", "range": (0.0, 1.0)}
    )
    b_ratio: float = field(
        default=1.0, metadata={"help": "How much faster B learns than A (LoRA+).", "range": (0.01, 1000.0)}
    )
    clipping: float = field(
        default=1.0, metadata={"help": "The largest gradient norm; 0 for none.", "range": (0.0, 1e9)}
    )
    dropout: float = field(
        default=0.0, metadata={"help": "The share of inputs the adapter misses.", "range": (0.0, 0.95)}
    )
    shuffle: bool = field(default=True, metadata={"help": "Another order of the examples in each epoch."})
    validate_every: int = field(
        default=50, metadata={"help": "Steps between validations.", "range": (1, 10_000_000)}
    )
    patience: int = field(
        default=0,
        metadata={"help": "Stop after so many validations in vain; 0 never.", "range": (0, 100_000)},
    )
    sample_every: int = field(
        default=50, metadata={"help": "Steps between samples; 0 for none.", "range": (0, 10_000_000)}
    )
    sample_tokens: int = field(default=32, metadata={"help": "How long samples are.", "range": (1, 4096)})
    checkpoint_every: int = field(
        default=25, metadata={"help": "Steps between checkpoints.", "range": (1, 10_000_000)}
    )
    seed: int = field(default=0, metadata={"help": "Of all that is random.", "range": (0, 2**31 - 1)})


@dataclass(frozen=True)
class QloraOptions(LoraOptions):
    """The same for a base that stays quantised."""

    quantise: Literal["keep", "nf4"] = field(
        default="keep",
        metadata={"help": "keep takes the base as it is; nf4 makes it smaller.", "choices": ("keep", "nf4")},
    )


WITHOUT_EFFECT = frozenset({"sample_every", "sample_tokens", "checkpoint_every"})
"""Options that change no number of a run, so that a checkpoint may be continued with others."""


def split_targets(options: LoraOptions) -> tuple[str, ...]:
    """Return the targets one by one."""
    return tuple(target.strip() for target in options.targets.split(",") if target.strip())
