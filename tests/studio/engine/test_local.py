"""The local engine: evaluations, generation, adapters that come, change and go, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Gains, Sampling
from studio.engine import decoder
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.weights import Weights
from studio.errors import CancelledError, EngineError, FormatError, MismatchError, UnsupportedError

Make = Callable[..., Any]
TOKENS = [3, 17, 0, 39, 5, 5, 21]
MODULES = ["blk.0.attn_q.weight", "blk.0.ffn_down.weight", "blk.1.attn_v.weight", "blk.1.ffn_up.weight"]


def blend(**scales: float) -> BlendState:
    return BlendState(tuple(BlendChannel(key, 1, scale) for key, scale in scales.items()))


@pytest.fixture
def base(tiny_base: Make) -> Any:
    return tiny_base()


@pytest.fixture
def engine(base: Any, tiny_adapter: Make) -> LocalEngine:
    """An engine with the adapters a and b attached."""
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach({"a": tiny_adapter(base, MODULES), "b": tiny_adapter(base, MODULES[1:3], seed=2)})
    return engine


def test_the_last_position_is_the_last_of_all(engine: LocalEngine) -> None:
    state = blend(a=0.7, b=-1)
    last = engine.evaluate(TOKENS, state)
    everything = engine.evaluate(TOKENS, state, positions="all")
    assert last.tokens == tuple(TOKENS) and last.state == state and last.scores is None
    assert last.milliseconds > 0
    np.testing.assert_allclose(everything.logits[-1], last.logits, rtol=1e-4, atol=1e-5)


def test_scores_are_the_log_probabilities_of_the_tokens(engine: LocalEngine) -> None:
    state = blend(a=0.7)
    scored = engine.evaluate(TOKENS, state, positions="scores")
    logits = engine.evaluate(TOKENS, state, positions="all").logits.astype(np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = [log_probabilities[position, token] for position, token in enumerate(TOKENS[1:])]
    assert scored.scores is not None
    np.testing.assert_allclose(scored.scores, expected, atol=1e-5)
    np.testing.assert_allclose(scored.logits, logits[-1], atol=1e-5)


def test_a_long_prompt_goes_through_in_passes(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine.evaluate(TOKENS, blend(a=1), positions="all").logits
    monkeypatch.setattr(decoder, "PASS_COLUMNS", 3)
    monkeypatch.setattr(decoder, "HEAD_COLUMNS", 2)
    parts = engine.evaluate(TOKENS, blend(a=1), positions="all").logits
    scored = engine.evaluate(TOKENS, blend(a=1), positions="scores")
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    np.testing.assert_allclose(scored.logits, whole[-1], atol=1e-5)


def test_many_blends_in_one_pass_are_what_each_is_alone(engine: LocalEngine) -> None:
    states = [BASE_ALONE, blend(a=0.7, b=-1), blend(b=2)]
    together = engine.evaluate_many(TOKENS, states)
    assert [evaluation.state for evaluation in together] == states
    for evaluation in together:
        alone = engine.evaluate(TOKENS, evaluation.state)
        np.testing.assert_allclose(evaluation.logits, alone.logits, atol=1e-5)
    assert engine.evaluate_many(TOKENS, []) == []


def test_sequences_of_different_lengths_run_side_by_side(engine: LocalEngine) -> None:
    sequences = [TOKENS, TOKENS[:1], [8, 9], [1] * 60, [*TOKENS, 4], TOKENS]
    states = [blend(a=0.7), BASE_ALONE, blend(b=-1), blend(a=1, b=1), blend(a=0.7), BASE_ALONE]
    together = engine.evaluate_batch(sequences, states)
    assert [list(evaluation.tokens) for evaluation in together] == sequences
    assert [evaluation.state for evaluation in together] == states
    for evaluation in together:
        alone = engine.evaluate(evaluation.tokens, evaluation.state, positions="all").logits[-1]
        assert np.linalg.norm(evaluation.logits - alone) < 1e-6 * np.linalg.norm(alone)
    with pytest.raises(ValueError, match="longer"):
        engine.evaluate_batch(sequences[:2], states[:3])


def test_a_cancelled_batch_stops_at_the_next_layer(engine: LocalEngine) -> None:
    polls = iter([False, True])
    with pytest.raises(CancelledError):
        engine.evaluate_batch([TOKENS, TOKENS[:3]], [BASE_ALONE] * 2, cancelled=lambda: next(polls))
    assert list(polls) == []


def test_silence_is_the_base_to_the_byte(base: Any, engine: LocalEngine) -> None:
    bare = LocalEngine(choose_backend("numpy"))
    bare.open(base)
    expected = bare.evaluate(TOKENS, BASE_ALONE).logits.tobytes()
    assert engine.evaluate(TOKENS, BASE_ALONE).logits.tobytes() == expected
    assert engine.evaluate(TOKENS, blend(a=0.0, b=0.0)).logits.tobytes() == expected
    assert engine.evaluate(TOKENS, blend(a=1e-3)).logits.tobytes() != expected


def test_a_silent_neighbour_changes_nothing(base: Any, engine: LocalEngine, tiny_adapter: Make) -> None:
    both = engine.evaluate(TOKENS, blend(a=0.7)).logits
    engine.attach({"a": tiny_adapter(base, MODULES)})
    np.testing.assert_allclose(engine.evaluate(TOKENS, blend(a=0.7)).logits, both, atol=1e-6)


def test_moving_a_slider_or_a_gain_packs_nothing(engine: LocalEngine) -> None:
    engine.evaluate(TOKENS, blend(a=0.7))
    bank = engine._bank
    engine.evaluate(TOKENS, blend(a=0.1, b=3))
    engine.evaluate(TOKENS, BlendState((BlendChannel("a", 1, 0.1, Gains.of({MODULES[0]: 0.5})),)))
    assert engine._bank is bank


def test_a_retrained_adapter_is_packed_anew(base: Any, tiny_adapter: Make) -> None:
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    adapter = tiny_adapter(base, MODULES)
    engine.attach({"a": adapter})
    before = engine.evaluate(TOKENS, blend(a=1)).logits
    for factors in adapter.factors.values():
        factors.b *= 2
    adapter.version = 2
    with pytest.raises(EngineError, match="a: the adapter has changed"):
        engine.evaluate(TOKENS, blend(a=1))
    after = engine.evaluate(TOKENS, BlendState((BlendChannel("a", 2, 0.5),))).logits
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_blend_of_an_unknown_adapter_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(EngineError, match="ghost: the blend names an adapter that is not attached"):
        engine.evaluate(TOKENS, blend(ghost=1))


def test_an_adapter_of_another_shape_is_refused_and_the_old_stay(
    engine: LocalEngine, tiny_base: Make, tiny_adapter: Make
) -> None:
    before = engine.evaluate(TOKENS, blend(a=1)).logits
    adapter = tiny_adapter(tiny_base(width=36), ["blk.0.attn_q.weight"])
    with pytest.raises(MismatchError, match="blk.0.attn_q.weight"):
        engine.attach({"wide": adapter})
    assert engine.evaluate(TOKENS, blend(a=1)).logits.tobytes() == before.tobytes()


def test_modules_the_base_lacks_are_passed_over(base: Any, engine: LocalEngine, tiny_adapter: Make) -> None:
    adapter = tiny_adapter(base, ["blk.0.attn_q.weight"])
    factors = dict(adapter.factors)
    factors["blk.7.attn_q.weight"] = factors["blk.0.attn_q.weight"]
    engine.attach({"a": adapter})
    expected = engine.evaluate(TOKENS, blend(a=1)).logits
    engine.attach({"a": replace(adapter, factors=factors)})
    assert engine.evaluate(TOKENS, blend(a=1)).logits.tobytes() == expected.tobytes()


def test_a_stranger_with_only_a_delta_is_heard(
    base: Any, engine: LocalEngine, tiny_adapter: Make, opaque_adapter: Make
) -> None:
    known = tiny_adapter(base, MODULES)
    deltas = {module: f.scaling * f.b @ f.a for module, f in known.factors.items()}
    stranger = opaque_adapter("stranger", deltas)
    engine.attach({"a": known, "b": tiny_adapter(base, MODULES[1:3], seed=2), "s": stranger})
    states = [blend(a=0.8, b=1), blend(b=0.5), blend(a=-2)]
    stand_ins = [blend(s=0.8, b=1), blend(b=0.5), blend(s=-2)]
    for state, stand_in in zip(states, engine.evaluate_many(TOKENS, stand_ins), strict=True):
        np.testing.assert_allclose(stand_in.logits, engine.evaluate(TOKENS, state).logits, atol=1e-5)
    assert set(stranger.calls) == {(name, (len(TOKENS), a.shape[1])) for name, a in deltas.items()}


def test_gains_are_heard_in_each_module_of_a_stranger_too(
    base: Any, engine: LocalEngine, tiny_adapter: Make, opaque_adapter: Make
) -> None:
    known = tiny_adapter(base, MODULES)
    engine.attach(
        {
            "a": known,
            "s": opaque_adapter("stranger", {m: f.scaling * f.b @ f.a for m, f in known.factors.items()}),
        }
    )
    gains = Gains.of(dict(zip(MODULES, (0.0, 2.5, -0.5, 1.0), strict=True)))
    wanted, found = (
        engine.evaluate(TOKENS, BlendState((BlendChannel(key, 1, 0.8, gains),))).logits for key in "as"
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert not np.allclose(wanted, engine.evaluate(TOKENS, blend(a=0.8)).logits)


def test_gains_of_0_are_silence_to_the_byte(engine: LocalEngine) -> None:
    silent = BlendState((BlendChannel("a", 1, 1.0, Gains.of(dict.fromkeys(MODULES, 0.0))),))
    expected = engine.evaluate(TOKENS, BASE_ALONE).logits.tobytes()
    assert engine.evaluate(TOKENS, silent).logits.tobytes() == expected


def test_a_stranger_of_the_wrong_shape_is_named(base: Any, engine: LocalEngine, opaque_adapter: Make) -> None:
    engine.attach({"s": opaque_adapter("stranger", {"blk.0.attn_q.weight": np.ones((5, 24), np.float32)})})
    with pytest.raises(MismatchError, match="blk.0.attn_q.weight: 'stranger' gave a delta of the shape"):
        engine.evaluate(TOKENS, blend(s=1))
    with pytest.raises(MismatchError, match="which only low-rank factors can"):
        engine.attach({"s": opaque_adapter("stranger", {"token_embd.weight": np.ones((40, 24), np.float32)})})


# Generation


@pytest.mark.parametrize("state", [BASE_ALONE, blend(a=0.9, b=0.5)], ids=["base", "blend"])
def test_greedy_generation_is_the_chain_of_likeliest_tokens(engine: LocalEngine, state: BlendState) -> None:
    generated = list(engine.generate(TOKENS, state, Sampling(max_tokens=12)))
    tokens = list(TOKENS)
    for token in generated:
        assert token == int(np.argmax(engine.evaluate(tokens, state).logits))
        tokens.append(token)
    assert len(generated) == 12


def test_decoding_token_by_token_gives_the_logits_of_one_pass(engine: LocalEngine) -> None:
    state = blend(a=1, b=1)
    whole = engine.evaluate(TOKENS, state, positions="all").logits
    stepwise, (first,) = engine._last_logits([TOKENS[:1]], [state], lambda: False)
    np.testing.assert_allclose(first, whole[0], atol=1e-5)
    stepwise.leave_trace(0)  # without room: the cache grows on the way
    for position, token in enumerate(TOKENS[1:], start=1):
        np.testing.assert_allclose(stepwise.next_logits(token), whole[position], atol=1e-5)


def test_two_streams_and_an_evaluation_do_not_disturb_each_other(engine: LocalEngine) -> None:
    sampling = Sampling(max_tokens=6)
    alone = [list(engine.generate(TOKENS, state, sampling)) for state in (BASE_ALONE, blend(a=2))]
    first, second = (
        engine.generate(TOKENS, BASE_ALONE, sampling),
        engine.generate(TOKENS, blend(a=2), sampling),
    )
    together: list[list[int]] = [[], []]
    for one, other in zip(first, second, strict=True):
        together[0].append(one)
        together[1].append(other)
        engine.evaluate([1, 2, 3], blend(b=1))
    assert together == alone


def test_the_same_seed_draws_the_same_tokens(engine: LocalEngine) -> None:
    sampling = Sampling(max_tokens=20, temperature=1.5, seed=7)
    drawn = list(engine.generate(TOKENS, BASE_ALONE, sampling))
    assert list(engine.generate(TOKENS, BASE_ALONE, sampling)) == drawn
    assert list(engine.generate(TOKENS, BASE_ALONE, replace(sampling, seed=8))) != drawn


def test_a_stop_token_ends_the_stream_unseen(engine: LocalEngine) -> None:
    sampling = Sampling(max_tokens=20, temperature=1.5, seed=7)
    drawn = list(engine.generate(TOKENS, BASE_ALONE, sampling))
    stopped = list(engine.generate(TOKENS, BASE_ALONE, sampling, stop=frozenset({drawn[4]})))
    assert stopped == drawn[: drawn.index(drawn[4])]


def test_a_full_context_ends_the_stream(tiny_base: Make) -> None:
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(tiny_base(context=len(TOKENS) + 3))
    assert engine.context_length == len(TOKENS) + 3
    assert len(list(engine.generate(TOKENS, BASE_ALONE, Sampling(max_tokens=50)))) == 3


def test_a_stream_ends_when_its_base_goes(engine: LocalEngine, base: Any) -> None:
    stream = engine.generate(TOKENS, BASE_ALONE, Sampling(max_tokens=50))
    next(stream)
    engine.open(base)
    with pytest.raises(CancelledError):
        next(stream)


# Cancelling and refusing


@pytest.mark.parametrize("layer", [1, 2])
def test_a_cancelled_evaluation_stops_at_the_next_layer(engine: LocalEngine, layer: int) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked >= layer

    with pytest.raises(CancelledError):
        engine.evaluate(TOKENS, BASE_ALONE, cancelled=cancelled)
    assert asked == layer


def test_a_cancelled_stream_stops(engine: LocalEngine) -> None:
    stopping = False
    stream = engine.generate(TOKENS, BASE_ALONE, Sampling(max_tokens=50), cancelled=lambda: stopping)
    assert len(list(islice(stream, 2))) == 2
    stopping = True
    with pytest.raises(CancelledError):
        next(stream)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "no tokens"),
        ([1, 40], "token 40 at position 1"),
        ([-1], "token -1 at position 0"),
        ([1] * 65, "65 tokens are more than the base's context of 64. Shorten"),
    ],
)
def test_tokens_that_the_base_cannot_take_are_refused(
    engine: LocalEngine, tokens: list[int], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        engine.evaluate(tokens, BASE_ALONE)
    with pytest.raises(EngineError, match=message):
        engine.generate(tokens, BASE_ALONE, Sampling())


def test_a_closed_engine_says_so(engine: LocalEngine) -> None:
    engine.close()
    with pytest.raises(EngineError, match="no base is open"):
        engine.evaluate(TOKENS, BASE_ALONE)
    with pytest.raises(EngineError, match="no base is open"):
        engine.attach({})


def test_a_refused_base_leaves_the_old_one_open(engine: LocalEngine, tiny_base: Make) -> None:
    before = engine.evaluate(TOKENS, blend(a=1)).logits
    strange, poisoned = tiny_base(), tiny_base()
    strange.metadata["general.architecture"] = "mamba"
    poisoned.arrays["blk.1.ffn_up.weight"][3, 4] = np.inf
    with pytest.raises(UnsupportedError, match="cannot run the architecture 'mamba'"):
        engine.open(strange)
    with pytest.raises(FormatError, match=r"blk.1.ffn_up.weight: it holds NaN or infinite"):
        engine.open(poisoned)
    assert engine.evaluate(TOKENS, blend(a=1)).logits.tobytes() == before.tobytes()


def test_a_base_larger_than_the_memory_is_refused(tiny_base: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = choose_backend("numpy")
    monkeypatch.setattr(backend, "memory_limit", lambda: 1000)
    with pytest.raises(EngineError, match="GB in float32"):
        LocalEngine(backend).open(tiny_base())


@pytest.mark.parametrize("positions", ["last", "all", "scores"])
@pytest.mark.parametrize("scale", [1e20, 1e30])
def test_a_blend_that_overflows_is_refused_naming_the_layer(
    engine: LocalEngine, positions: Any, scale: float
) -> None:
    with pytest.raises(EngineError, match=r"the blend overflows float32 at blk\.\d\. Lower the scales\."):
        engine.evaluate(TOKENS, blend(a=scale), positions=positions)
    assert np.isfinite(engine.evaluate(TOKENS, blend(a=1.0)).logits).all()


def test_generation_with_a_blend_that_overflows_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(EngineError, match="overflows"):
        next(engine.generate(TOKENS, blend(a=1e30), Sampling(max_tokens=2)))


def test_a_token_is_fed_once_though_memory_ran_out(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = Sampling(max_tokens=24, temperature=3, seed=1)
    undisturbed = list(engine.generate(TOKENS, blend(a=1), sampling))
    stream = engine.generate(TOKENS, blend(a=1), sampling)
    generated = list(islice(stream, 3))
    assert engine._base is not None
    model = engine._base.model
    logits, failures = model.logits, [MemoryError()]

    def in_short_memory(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return logits(*arguments)

    monkeypatch.setattr(model, "logits", in_short_memory)
    assert [*generated, *stream] == undisturbed
    assert not failures


def test_its_description_may_be_asked_for_while_it_is_closed(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the window does, whose thread is not the engine's."""
    whole = engine.description

    size: Callable[[Weights], int] = Weights.__dict__["nbytes"].fget

    def nbytes_while_another_thread_closes(weights: Weights) -> int:
        engine.close()
        return size(weights)

    monkeypatch.setattr(Weights, "nbytes", property(nbytes_while_another_thread_closes))
    assert "weights" in whole and engine.description == whole
    assert "weights" not in engine.description


def test_a_sibling_leaves_the_base_to_its_owner(engine: LocalEngine, base: Any, tiny_base: Make) -> None:
    sibling = engine.sibling()
    assert sibling.weights is engine.weights
    ready = engine.prepare()
    wanted = engine.evaluate(TOKENS, blend(a=0.7)).logits
    sibling.open(tiny_base())
    assert sibling.weights is not engine.weights
    assert engine.prepare() == ready
    np.testing.assert_array_equal(engine.evaluate(TOKENS, blend(a=0.7)).logits, wanted)
    other = engine.sibling()
    other.close()
    assert engine.prepare() == ready
