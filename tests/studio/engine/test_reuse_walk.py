"""Whatever somebody does at the desk, an engine that remembers answers as one that is opened anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Gains, Sampling
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.model import EMBEDDING, HEAD

Make = Callable[..., Any]
TOKENS = [3, 17, 0, 39, 5, 5, 21]
LAYERS = 4
EVERYWHERE = [
    EMBEDDING,
    *(f"blk.{layer}.{name}.weight" for layer in range(LAYERS) for name in ("attn_k", "ffn_up")),
]
LATE = ["blk.2.attn_v.weight", "blk.3.ffn_down.weight", HEAD]

SCALES = st.sampled_from([0.0, 0.4, -1.0])
KEYS = st.sampled_from(["a", "late", "stranger"])
POSITIONS = st.integers(0, 12)
MOVES = st.one_of(
    st.tuples(st.just("scale"), KEYS, SCALES),
    st.tuples(st.just("gain"), KEYS, SCALES),
    st.tuples(st.just("type"), st.integers(0, 39), st.integers(1, 3)),
    st.tuples(st.just("cut"), POSITIONS, st.integers(0, 39)),
    st.tuples(st.just("retrain"), KEYS, SCALES),
    st.tuples(st.just("replace"), KEYS, st.integers(1, 3)),
    st.tuples(st.just("stream"), KEYS, st.integers(1, 3)),
)


def relative_error(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


class Walk:
    """Someone at the desk, and two engines: one remembers, one is opened anew for every question."""

    def __init__(self, base: Any, tiny_adapter: Make, opaque_adapter: Make) -> None:
        random = np.random.default_rng(0)
        modules = ["blk.1.attn_q.weight", "blk.3.ffn_up.weight"]
        deltas = {
            module: 0.1 * random.standard_normal(base.arrays[module].shape, dtype=np.float32)
            for module in modules
        }
        self.base, self.make = base, tiny_adapter
        self.adapters = {
            "a": tiny_adapter(base, EVERYWHERE),
            "late": tiny_adapter(base, LATE, seed=2),
            "stranger": opaque_adapter("stranger", deltas),
        }
        self.scales = {"a": 0.5, "late": 0.5, "stranger": 0.5}
        self.gains: dict[str, Gains] = {}
        self.tokens = list(TOKENS)
        self.engine = LocalEngine(choose_backend("numpy"))
        self.engine.open(base)

    @property
    def state(self) -> BlendState:
        return BlendState(
            tuple(
                BlendChannel(key, self.adapters[key].version, scale, self.gains.get(key, Gains()))
                for key, scale in self.scales.items()
                if scale
            )
        )

    def step(self, move: str, one: Any, other: Any) -> None:
        getattr(self, f"do_{move}")(one, other)
        self.tokens = self.tokens[:40]
        bare = LocalEngine(choose_backend("numpy"), reuse=False)
        bare.open(self.base)
        for engine in (self.engine, bare):
            engine.attach(self.adapters)
        for state in (BASE_ALONE, self.state):
            wanted = bare.evaluate(self.tokens, state).logits
            assert relative_error(self.engine.evaluate(self.tokens, state).logits, wanted) < 1e-6

    def do_scale(self, key: str, scale: float) -> None:
        self.scales[key] = scale

    def do_gain(self, key: str, gain: float) -> None:
        self.gains[key] = Gains.of({self.adapters[key].modules[-1]: gain})

    def do_type(self, token: int, count: int) -> None:
        self.tokens += [token] * count

    def do_cut(self, position: int, token: int) -> None:
        self.tokens = [*self.tokens[:position], token]

    def do_retrain(self, key: str, scale: float) -> None:
        adapter = self.adapters[key]
        for factors in getattr(adapter, "factors", {}).values():
            factors.b *= np.float32(1 + scale)
        for delta in getattr(adapter, "deltas", {}).values():
            delta *= np.float32(1 + scale)
        adapter.version += 1

    def do_replace(self, key: str, seed: int) -> None:
        self.adapters[key] = self.make(self.base, LATE, seed=seed)

    def do_stream(self, _: str, count: int) -> None:
        self.engine.attach(self.adapters)
        self.tokens += self.engine.generate(self.tokens, self.state, Sampling(max_tokens=count))


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the fixtures are pure functions
)
@given(moves=st.lists(MOVES, min_size=4, max_size=16))
def test_whatever_is_done_the_answer_is_a_fresh_engines(
    moves: list[tuple[str, Any, Any]], tiny_base: Make, tiny_adapter: Make, opaque_adapter: Make
) -> None:
    walk = Walk(tiny_base(layers=LAYERS), tiny_adapter, opaque_adapter)
    for move in moves:
        walk.step(*move)
