from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendState, DeltaAdapter, Engine, Sampling
from studio.engine.local import LocalEngine
from studio.errors import EngineError, StudioError, UnsupportedError
from studio.formats.gguf_file import GgufFile
from studio.jobs.engine_thread import QUICK, EngineThread
from studio.jobs.live import GenerationRequest, GenerationUpdate, LiveRequest, LiveResult, TooLongError
from studio.lora.adapter import Adapter
from studio.lora.stack import LoraStack
from studio.session.prompt import Prompt

Blend = Callable[[float], BlendState]
TOKENS = (1, 2, 3)


class Ears:
    """Collects what an engine thread emits, in order."""

    def __init__(self, thread: EngineThread) -> None:
        self.heard: list[tuple[str, Any]] = []
        self._news = threading.Condition()
        for name in ("opened", "refused", "evaluated", "generated", "failed", "busy_changed"):
            getattr(thread, name).connect(partial(self._hear, name))

    def _hear(self, name: str, value: Any) -> None:
        with self._news:
            self.heard.append((name, value))
            self._news.notify_all()

    def all(self, name: str) -> list[Any]:
        with self._news:
            return [value for heard, value in self.heard if heard == name]

    def wait_until(self, true: Callable[[], bool], timeout: float = 10.0) -> None:
        deadline = time.monotonic() + timeout
        while not true():
            with self._news:
                assert self._news.wait(deadline - time.monotonic()), f"heard only {self.heard}"

    def answer_to(self, number: int) -> LiveResult:
        self.wait_until(lambda: any(result.number == number for result in self.all("evaluated")))
        result = next(result for result in self.all("evaluated") if result.number == number)
        assert isinstance(result, LiveResult)
        return result

    def failure(self) -> StudioError:
        self.wait_until(lambda: bool(self.all("failed")))
        error = self.all("failed")[-1]
        assert isinstance(error, StudioError)
        return error

    def ends_of(self, number: int, sides: int = 2) -> list[GenerationUpdate]:
        """Wait for the last update of every side of a generation."""

        def ends() -> list[GenerationUpdate]:
            return [update for update in self.all("generated") if update.number == number and update.finished]

        self.wait_until(lambda: len(ends()) == sides)
        return ends()


@pytest.fixture
def start() -> Iterator[Callable[[Engine], tuple[EngineThread, Ears]]]:
    """Start engine threads and close them after the test, which each must do in time."""
    threads: list[EngineThread] = []

    def start(engine: Engine) -> tuple[EngineThread, Ears]:
        threads.append(EngineThread(engine))
        return threads[-1], Ears(threads[-1])

    yield start
    assert all([thread.close() for thread in threads])


Start = Callable[[Any], tuple[EngineThread, Ears]]


@pytest.fixture
def ask(table_base: Any, shift: DeltaAdapter, blend: Blend) -> Callable[..., LiveRequest]:
    """A request for a blend of `shift` at a scale."""

    def ask(scale: float, tokens: tuple[int, ...] = TOKENS) -> LiveRequest:
        return LiveRequest(table_base, None, {"shift": shift}, tokens, blend(scale))

    return ask


Ask = Callable[..., LiveRequest]


def test_an_evaluation_brings_base_blend_and_their_comparison(
    start: Start, engine: Any, ask: Ask, table_base: Any
) -> None:
    thread, ears = start(engine)
    result = ears.answer_to(thread.evaluate(ask(2.0)))
    np.testing.assert_array_equal(result.base.logits, table_base.dense("table")[3])
    assert result.blend.logits[3] == result.base.logits[3] + np.float32(2.0)
    assert result.next_token.kl > 0
    assert {row.piece for row in result.next_token.candidates} >= {"3"}
    assert ears.all("opened") == [table_base]


def test_the_base_alone_runs_once_for_the_same_tokens(start: Start, engine: Any, ask: Ask) -> None:
    thread, ears = start(engine)
    for scale in (0.5, 1.0, 1.5):
        ears.answer_to(thread.evaluate(ask(scale)))
    assert engine.log.count("evaluate base") == 1
    ears.answer_to(thread.evaluate(ask(1.5, tokens=(1, 2))))
    assert engine.log.count("evaluate base") == 2


def test_a_silent_blend_is_the_base_itself(start: Start, engine: Any, ask: Ask) -> None:
    thread, ears = start(engine)
    result = ears.answer_to(thread.evaluate(ask(0.0)))
    assert result.blend is result.base
    assert result.next_token.kl == 0.0


def test_of_200_requests_a_second_the_last_is_answered_and_stale_ones_are_cancelled(
    start: Start, make_engine: Any, ask: Ask
) -> None:
    engine = make_engine(pause=0.01)  # 40 ms a pass: eight requests come in its time
    thread, ears = start(engine)
    numbers = []
    for event in range(200):
        numbers.append(thread.evaluate(ask(1.0 + event)))
        time.sleep(0.005)
    result = ears.answer_to(numbers[-1])
    assert result.blend.state.channels[0].scale == 200.0
    answered = [result.number for result in ears.all("evaluated")]
    assert answered == sorted(answered)
    assert engine.log.count("cancelled") > 5
    assert 3 <= len(answered) < 30  # some on the way, so that the picture moves while one drags


def test_a_stale_evaluation_is_given_up_at_the_next_layer(start: Start, make_engine: Any, ask: Ask) -> None:
    engine = make_engine(pause=0.02)
    thread, ears = start(engine)
    ears.answer_to(thread.evaluate(ask(0.0)))
    engine.log.clear()
    thread.evaluate(ask(1.0))
    time.sleep(0.01)  # inside its first layer
    ears.answer_to(thread.evaluate(ask(2.0)))
    assert engine.log == ["evaluate blend", "cancelled", "evaluate blend"]


def test_a_slow_evaluation_is_given_up_even_while_a_slider_moves(
    start: Start, make_engine: Any, ask: Ask
) -> None:
    engine = make_engine(pause=QUICK / 3)  # four layers: no pass is quick
    thread, ears = start(engine)
    numbers = [thread.evaluate(ask(1.0))]
    for scale in (2.0, 3.0):
        time.sleep(QUICK / 2)
        numbers.append(thread.evaluate(ask(scale)))
    ears.answer_to(numbers[-1])
    assert [result.number for result in ears.all("evaluated")] == numbers[-1:]


def test_another_prompt_never_waits_for_the_one_before(start: Start, make_engine: Any, ask: Ask) -> None:
    engine = make_engine(pause=0.05)
    thread, ears = start(engine)
    for scale in (1.0, 2.0):  # the second would run on if a slider moved
        thread.evaluate(ask(scale))
        time.sleep(0.06)
    ears.answer_to(thread.evaluate(ask(2.0, tokens=(1, 2))))
    assert engine.log.count("cancelled") == 2


@pytest.mark.parametrize("kind", [RuntimeError, MemoryError, SystemExit, ValueError, EngineError])
def test_whatever_an_engine_raises_is_reported_and_the_thread_lives_on(
    start: Start, engine: Any, ask: Ask, kind: type[BaseException]
) -> None:
    thread, ears = start(engine)
    engine.fail_with = kind("device lost")
    thread.evaluate(ask(1.0))
    error = ears.failure()
    assert error.__cause__ is None if kind is EngineError else isinstance(error.__cause__, kind)
    ears.answer_to(thread.evaluate(ask(1.0)))


def test_a_listener_that_fails_does_not_harm_the_thread(
    start: Start, engine: Any, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    thread, ears = start(engine)

    def fail(_: LiveResult) -> None:
        raise ZeroDivisionError

    thread.evaluated.connect(fail)
    ears.answer_to(thread.evaluate(ask(1.0)))
    ears.answer_to(thread.evaluate(ask(2.0)))
    assert "a listener failed" in caplog.text


def test_a_refused_base_is_refused_again_without_another_try(
    start: Start, engine: Any, make_table_base: Any, ask: Ask
) -> None:
    thread, ears = start(engine)
    mamba = make_table_base(architecture="mamba", name="mamba")
    for _ in range(2):
        thread.evaluate(LiveRequest(mamba, None, {}, TOKENS, BASE_ALONE))
        time.sleep(0.05)
    ears.wait_until(lambda: len(ears.all("failed")) == 2)
    first, second = ears.all("failed")
    assert isinstance(first, UnsupportedError) and first is second
    assert ears.all("refused") == [(mamba, first)]
    assert engine.log == ["open mamba"]
    ears.answer_to(thread.evaluate(ask(1.0)))  # another base works


def test_a_prompt_longer_than_the_context_is_refused(start: Start, make_engine: Any, table_base: Any) -> None:
    thread, ears = start(make_engine(context_length=2))
    thread.evaluate(LiveRequest(table_base, None, {}, TOKENS, BASE_ALONE))
    error = ears.failure()
    assert isinstance(error, TooLongError)
    assert str(error) == "the prompt has 3 tokens, and the base takes 2. Shorten the prompt to 2 tokens."


def test_a_text_without_a_tokenizer_is_refused(start: Start, engine: Any, table_base: Any) -> None:
    thread, ears = start(engine)
    thread.evaluate(LiveRequest(table_base, None, {}, Prompt("text"), BASE_ALONE))
    assert "tokenizer" in ears.failure().message


def test_base_and_blend_are_generated_side_by_side(
    start: Start, engine: Any, ask: Ask, table_base: Any
) -> None:
    thread, ears = start(engine)
    number = thread.generate(GenerationRequest(ask(100.0), Sampling(max_tokens=5)))
    base, blend = sorted(ears.ends_of(number), key=lambda update: update.side)
    assert blend.ids == (3,) * 5
    table, expected = table_base.dense("table"), [3]
    for _ in range(5):
        expected.append(int(np.argmax(table[expected[-1]])))
    assert base.ids == tuple(expected[1:])
    sides = [update.side for update in ears.all("generated")]
    assert sides[:4] == ["base", "blend", "base", "blend"]


def test_an_evaluation_waits_for_one_token_at_most(start: Start, make_engine: Any, ask: Ask) -> None:
    thread, ears = start(make_engine(pause=0.002))
    ears.answer_to(thread.evaluate(ask(1.0)))
    thread.generate(GenerationRequest(ask(1.0), Sampling(max_tokens=1000)))
    ears.wait_until(lambda: len(ears.all("generated")) >= 4)
    for scale in range(2, 12):
        heard_before = len(ears.heard)
        ears.answer_to(thread.evaluate(ask(float(scale))))
        between = [name for name, _ in ears.heard[heard_before:]]
        # one token may be under way when the request comes, and one has its turn before it
        assert between[: between.index("evaluated")].count("generated") <= 2


def test_generation_goes_on_while_a_slider_moves_without_a_pause(
    start: Start, make_engine: Any, ask: Ask
) -> None:
    thread, ears = start(make_engine(pause=0.002))
    number = thread.generate(GenerationRequest(ask(1.0), Sampling(max_tokens=10)))
    ears.wait_until(lambda: len(ears.all("generated")) >= 2)
    finished = threading.Event()
    thread.generated.connect(lambda update: finished.set() if update.finished else None)
    deadline = time.monotonic() + 10
    while not finished.is_set() and time.monotonic() < deadline:
        thread.evaluate(ask(time.monotonic()))
        time.sleep(0.002)
    assert finished.is_set()
    assert len(ears.ends_of(number)[0].ids) == 10


def test_an_adapter_that_is_removed_while_generating_is_heard_to_the_end(
    start: Start, make_engine: Any, ask: Ask, table_base: Any
) -> None:
    thread, ears = start(make_engine(pause=0.001))
    number = thread.generate(GenerationRequest(ask(100.0), Sampling(max_tokens=20), sides=("blend",)))
    ears.wait_until(lambda: bool(ears.all("generated")))
    ears.answer_to(thread.evaluate(LiveRequest(table_base, None, {}, TOKENS, BASE_ALONE)))
    assert ears.ends_of(number, sides=1)[0].ids == (3,) * 20
    assert not ears.all("failed")


def test_stopping_a_generation_finishes_both_sides_with_what_they_have(
    start: Start, make_engine: Any, ask: Ask
) -> None:
    thread, ears = start(make_engine(pause=0.001))
    number = thread.generate(GenerationRequest(ask(1.0), Sampling(max_tokens=10_000)))
    ears.wait_until(lambda: len(ears.all("generated")) >= 4)
    thread.stop_generation()
    assert all(0 < len(update.ids) < 10_000 for update in ears.ends_of(number))


def test_a_new_generation_takes_the_place_of_the_old(start: Start, make_engine: Any, ask: Ask) -> None:
    thread, ears = start(make_engine(pause=0.001))
    old = thread.generate(GenerationRequest(ask(1.0), Sampling(max_tokens=10_000)))
    new = thread.generate(GenerationRequest(ask(1.0), Sampling(max_tokens=3)))
    assert [len(update.ids) for update in ears.ends_of(new)] == [3, 3]
    assert len(ears.ends_of(old)) == 2


def test_a_generation_that_fails_is_reported_and_finished(
    start: Start, engine: Any, table_base: Any, blend: Blend
) -> None:
    thread, ears = start(engine)
    request = LiveRequest(table_base, None, {}, TOKENS, blend(1.0))  # a blend of an adapter that is not there
    number = thread.generate(GenerationRequest(request, Sampling(), sides=("blend",)))
    assert isinstance(ears.failure().__cause__, KeyError)
    assert ears.ends_of(number, sides=1)[0].ids == ()


def test_opening_a_base_interrupts_an_evaluation_which_is_then_answered(
    start: Start, make_engine: Any, ask: Ask, table_base: Any
) -> None:
    engine = make_engine(pause=0.02)
    thread, ears = start(engine)
    number = thread.evaluate(ask(1.0))
    time.sleep(0.03)
    thread.open(table_base)
    assert ears.answer_to(number)
    assert "cancelled" in engine.log


def test_opening_another_base_drops_requests_for_the_old_one(
    start: Start, make_engine: Any, ask: Ask, make_table_base: Any
) -> None:
    thread, ears = start(make_engine(pause=0.02))
    other = make_table_base(seed=1, name="other")
    thread.evaluate(ask(1.0))
    time.sleep(0.03)
    thread.evaluate(ask(2.0))
    thread.open(other)
    ears.answer_to(thread.evaluate(LiveRequest(other, None, {}, TOKENS, BASE_ALONE)))
    assert [base.name for base in ears.all("opened")] == ["table", "other"]
    assert len(ears.all("evaluated")) == 1


def test_another_engine_takes_over_and_the_old_one_is_closed(
    start: Start, engine: Any, make_engine: Any, ask: Ask
) -> None:
    thread, ears = start(engine)
    ears.answer_to(thread.evaluate(ask(1.0)))
    spare = make_engine()
    thread.switch_engine(spare)
    ears.answer_to(thread.evaluate(ask(1.0)))
    assert engine.closed and not spare.closed
    assert spare.log[0] == "open table"


def test_busy_is_told_around_work(start: Start, engine: Any, ask: Ask) -> None:
    thread, ears = start(engine)
    thread.evaluate(ask(1.0))
    ears.wait_until(lambda: ears.all("busy_changed") == [True, False])


def test_closing_in_the_middle_of_everything_is_quick(start: Start, make_engine: Any, ask: Ask) -> None:
    engine = make_engine(pause=0.05)
    thread, ears = start(engine)
    thread.generate(GenerationRequest(ask(1.0), Sampling(max_tokens=10_000)))
    thread.evaluate(ask(1.0))
    time.sleep(0.02)
    started = time.monotonic()
    assert thread.close()
    assert time.monotonic() - started < 0.5
    assert engine.closed
    assert not ears.all("failed")
    thread.evaluate(ask(2.0))  # harmless, and never answered


def test_the_local_engine_behind_the_thread_hears_the_stack(
    start: Start, local_engine: LocalEngine, tiny_llama: GgufFile, tiny_adapter: Adapter
) -> None:
    thread, ears = start(local_engine)
    stack = LoraStack()
    key = stack.push(tiny_adapter)

    def evaluate() -> LiveResult:
        snapshot = stack.snapshot()
        request = LiveRequest(tiny_llama, None, snapshot.members, TOKENS, snapshot.blend)
        return ears.answer_to(thread.evaluate(request))

    heard = evaluate()
    assert heard.next_token.kl > 1e-6
    stack.set_muted(key, True)
    muted = evaluate()
    assert muted.next_token.kl == 0.0
    np.testing.assert_array_equal(muted.base.logits, heard.base.logits)
    stack.remove(key)
    np.testing.assert_array_equal(evaluate().blend.logits, heard.base.logits)


def test_the_local_engine_generates_both_sides_while_evaluating(
    start: Start, local_engine: LocalEngine, tiny_llama: GgufFile, tiny_adapter: Adapter
) -> None:
    stack = LoraStack()
    stack.push(tiny_adapter, 2.0)
    live = LiveRequest(tiny_llama, None, stack.by_key, TOKENS, stack.blend)
    local_engine.open(tiny_llama)
    local_engine.attach(stack.by_key)
    sampling = Sampling(max_tokens=12)
    expected = {
        "base": tuple(local_engine.generate(TOKENS, BASE_ALONE, sampling)),
        "blend": tuple(local_engine.generate(TOKENS, stack.blend, sampling)),
    }
    thread, ears = start(local_engine)
    number = thread.generate(GenerationRequest(live, sampling))
    for _ in range(5):
        thread.evaluate(LiveRequest(tiny_llama, None, {}, TOKENS, BASE_ALONE))
        time.sleep(0.002)
    assert {update.side: update.ids for update in ears.ends_of(number)} == expected
