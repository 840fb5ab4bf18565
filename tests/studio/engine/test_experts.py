"""Mixtures of experts under blends, on a strict device, and with files that cannot be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Gains
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.models import model_for
from studio.engine.models.experts import choose
from studio.engine.operators import expert_shares
from studio.errors import FormatError, MismatchError
from studio.formats.gguf_file import GgufFile

FOLDER = Path(__file__).parents[2] / "data" / "architectures"
TOKENS = list(range(3, 40, 3))
EXPERTS = ["blk.0.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight"]


@pytest.fixture(params=["mixtral", "qwen2moe", "qwen3moe"])
def base(request: pytest.FixtureRequest, memory_base: Callable[..., Any]) -> Iterator[Any]:
    file = GgufFile.open(FOLDER / f"{request.param}.gguf")
    yield memory_base(dict(file.metadata), {name: file.dense(name) for name in file.tensors})
    file.close()


@pytest.mark.parametrize("sum_to_one", [True, False])
def test_only_the_likeliest_experts_have_a_share(sum_to_one: bool) -> None:
    scores = np.log(np.array([[0.1, 0.4], [0.6, 0.3], [0.05, 0.2], [0.25, 0.1]], dtype=np.float32))
    shares = expert_shares(np, scores, choose(scores, 2), sum_to_one=sum_to_one)
    wanted = np.array([[0, 0.4], [0.6, 0.3], [0, 0], [0.25, 0]])
    if sum_to_one:
        wanted /= wanted.sum(axis=0)
    np.testing.assert_allclose(shares, wanted, rtol=1e-6)


def test_several_blends_at_once_are_each_as_alone(base: Any, tiny_adapter: Callable[..., Any]) -> None:
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach({"a": tiny_adapter(base, EXPERTS), "b": tiny_adapter(base, EXPERTS[1:], rank=2, seed=2)})
    states = [
        BlendState((BlendChannel("a", 1, 0.9),)),
        BASE_ALONE,
        BlendState((BlendChannel("a", 1, -0.4), BlendChannel("b", 1, 1.3))),
    ]
    for state, together in zip(states, engine.evaluate_many(TOKENS, states), strict=True):
        alone = engine.evaluate(TOKENS, state).logits
        np.testing.assert_allclose(together.logits, alone, rtol=1e-4, atol=1e-5)
    assert not np.allclose(
        engine.evaluate(TOKENS, states[0]).logits, engine.evaluate(TOKENS, states[2]).logits
    )


def test_gains_act_on_experts_like_weights_with_their_deltas_added(
    base: Any, tiny_adapter: Callable[..., Any], memory_base: Callable[..., Any]
) -> None:
    targets = [*EXPERTS, "token_embd.weight", "blk.1.attn_output.weight"]
    adapter = tiny_adapter(base, targets)
    heard = BlendChannel("a", 1, 0.9, Gains.of(dict(zip(targets, (0.0, 2.0, -0.7, 0.4, 1.5), strict=True))))
    merged = {
        name: np.float32(
            base.arrays[name] + heard.scale_of(name) * pair.scaling * pair.b.astype(np.float64) @ pair.a
        )
        for name, pair in adapter.factors.items()
    }
    logits = []
    for model, adapters, state in (
        (base, {"a": adapter}, BlendState((heard,))),
        (memory_base(base.metadata, base.arrays | merged), {}, BASE_ALONE),
    ):
        engine = LocalEngine(choose_backend("numpy"))
        engine.open(model)
        engine.attach(adapters)
        logits.append(engine.evaluate(TOKENS, state, positions="all").logits)
    assert np.linalg.norm(logits[0] - logits[1]) < 1e-5 * np.linalg.norm(logits[1])


@pytest.mark.usefixtures("strict_device")
def test_a_device_that_refuses_host_arrays_gives_the_same(
    base: Any, tiny_adapter: Callable[..., Any]
) -> None:
    state = BlendState((BlendChannel("a", 1, 0.9),))
    logits = []
    for name in ("numpy", "cupy"):
        engine = LocalEngine(choose_backend(name))
        engine.open(base)
        engine.attach({"a": tiny_adapter(base, EXPERTS)})
        logits.append(engine.evaluate(TOKENS, state, positions="all").logits)
    np.testing.assert_array_equal(logits[0], logits[1])


def test_a_strangers_deltas_cannot_act_on_experts(base: Any, opaque_adapter: Callable[..., Any]) -> None:
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    with pytest.raises(MismatchError, match="acts on experts"):
        engine.attach({"a": opaque_adapter("opaque", {EXPERTS[0]: np.zeros((2, 2), np.float32)})})


def test_factors_of_another_number_of_experts_are_refused(
    base: Any, tiny_adapter: Callable[..., Any]
) -> None:
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    adapter = tiny_adapter(base, EXPERTS)
    adapter.factors[EXPERTS[0]].a = adapter.factors[EXPERTS[0]].a[1:]
    with pytest.raises(MismatchError, match="do not fit") as caught:
        engine.attach({"a": adapter})
    assert caught.value.where == EXPERTS[0]


@pytest.mark.parametrize(
    ("key", "value"), [("expert_used_count", 7), ("expert_count", 5), ("expert_used_count", 0)]
)
def test_a_wrong_number_of_experts_is_named_by_its_key(base: Any, key: str, value: int) -> None:
    base.metadata[f"{base.architecture}.{key}"] = value
    with pytest.raises(FormatError) as caught:
        model_for(base)
    assert caught.value.where == f"{base.architecture}.{key}"


def test_a_matrix_of_one_row_may_be_a_vector_in_the_file(memory_base: Callable[..., Any]) -> None:
    file = GgufFile.open(FOLDER / "qwen2moe.gguf")
    arrays = {name: file.dense(name) for name in file.tensors}
    logits = []
    for shape in ((1, -1), (-1,)):
        for name in arrays:
            if name.endswith("ffn_gate_inp_shexp.weight"):
                arrays[name] = arrays[name].reshape(shape)
        engine = LocalEngine(choose_backend("numpy"))
        engine.open(memory_base(dict(file.metadata), arrays))
        logits.append(engine.evaluate(TOKENS, BASE_ALONE).logits)
    file.close()
    np.testing.assert_array_equal(logits[0], logits[1])
