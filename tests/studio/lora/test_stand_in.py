"""A base known by an adapter alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from studio.contracts import BaseModel
from studio.errors import MismatchError, UnsupportedError
from studio.lora.adapter import Adapter
from studio.lora.stand_in import StandInBase


def test_it_has_the_weights_that_the_adapter_acts_on(make_adapter: Callable[..., Adapter]) -> None:
    base = StandInBase(make_adapter("a", {"blk.0.attn_q.weight": (6, 4)}, architecture="nova"))
    assert isinstance(base, BaseModel)
    assert (base.architecture, base.tensors["blk.0.attn_q.weight"].shape) == ("nova", (6, 4))
    with pytest.raises(UnsupportedError, match="--base"):
        base.dense("blk.0.attn_q.weight")


def test_an_adapter_that_needs_its_base_is_refused(make_adapter: Callable[..., Adapter]) -> None:
    for more in ({}, {"architecture": "llama", "rows_as_stored": True}):
        with pytest.raises(MismatchError, match="are needed to convert it"):
            StandInBase(make_adapter("a", {"blk.0.attn_q.weight": (6, 4)}, **more))
