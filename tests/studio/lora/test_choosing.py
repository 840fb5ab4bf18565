"""Modules by the names of targets, by patterns, and all linear ones."""

from __future__ import annotations

import pytest

from studio.errors import MismatchError
from studio.formats.gguf_file import GgufFile
from studio.lora.choosing import ALL_LINEAR, chosen_modules
from studio.lora.targets import targets_of

LINEAR = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def test_all_linear_is_every_weight_of_the_blocks(smollm2: GgufFile) -> None:
    modules = chosen_modules(smollm2, [ALL_LINEAR])
    assert len(modules) == 210
    assert targets_of(modules) == LINEAR


@pytest.mark.parametrize(
    ("targets", "count", "found"),
    [
        (["attn_q", "attn_v"], 60, ("attn_q", "attn_v")),
        (["ffn_*"], 90, ("ffn_gate", "ffn_up", "ffn_down")),
        (["attn_[qk]"], 60, ("attn_q", "attn_k")),
        (["blk.2?.ffn_down.weight", "blk.0.*"], 17, LINEAR),
        (["all-linear", "token_embd"], 211, ("token_embd", *LINEAR)),
    ],
)
def test_patterns_name_targets_or_modules(
    smollm2: GgufFile, targets: list[str], count: int, found: tuple[str, ...]
) -> None:
    modules = chosen_modules(smollm2, targets)
    assert len(modules) == len(set(modules)) == count
    assert targets_of(modules) == found


def test_a_pattern_that_means_nothing_is_named(smollm2: GgufFile) -> None:
    with pytest.raises(MismatchError, match=r"has no q_proj, blk\.99\.\*.*Choose among"):
        chosen_modules(smollm2, ["attn_q", "q_proj", "blk.99.*"])
