"""A run of training: steps over examples, validation, samples and checkpoints, told one by one."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import (
    BlendChannel,
    BlendState,
    Dropout,
    Loss,
    Progress,
    Sampling,
    Trained,
    TrainingProgress,
)
from studio.engine.kept_memory import kept_memory
from studio.engine.tokenizer import tokenizer_from_metadata
from studio.errors import NotFiniteError
from studio.learning.checkpoint import RunState
from studio.learning.ordering import Order
from studio.learning.pace import Pace
from studio.learning.parameters import Parameters, added
from studio.learning.schedules import rate_at
from studio.learning.stopping import Best

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from studio.contracts import Gradients, OptimiserRun, TrainingRequest, Work
    from studio.engine.tokenizer import Tokenizer
    from studio.learning.checkpoint import Checkpoints
    from studio.learning.options import LoraOptions
    from studio.lora.adapter import Adapter

LAST_LOSSES = 20
"""Over how many steps the loss of a finished run is taken."""

VALIDATED_AT_ONCE = 8
"""How many examples are validated between two notices."""


class TrainingRun:
    """Trains one adapter.

    Parameters
    ----------
    request
        What is learnt, and on what.
    options
        How.
    adapter
        As it begins.
    optimiser
        Fresh.
    checkpoints
        Where the run is kept; None keeps nothing.
    """

    def __init__(
        self,
        request: TrainingRequest,
        options: LoraOptions,
        adapter: Adapter,
        optimiser: OptimiserRun,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._request = request
        self._options = options
        self._checkpoints = checkpoints
        self._parameters = Parameters(adapter, optimiser, clipping=options.clipping, b_ratio=options.b_ratio)
        self._order = Order(
            len(request.examples),
            options.batch * options.accumulation,
            options.seed if options.shuffle else None,
        )
        self.total = options.steps or self._order.steps(options.epochs)
        self._step = 0
        self._losses: deque[float] = deque(maxlen=LAST_LOSSES)
        self._best = Best()
        self._best_adapter: Adapter | None = None
        self._before: float | None = None
        self._key = _free_key(request)
        self._saved = 0

    def work(self) -> Work:
        """Go on from where the run is to its end."""
        with kept_memory():
            return (yield from self._steps())

    def _steps(self) -> Work:
        if self._step == 0 and self._request.validation:
            self._before = yield from self._validate()
            self._best = Best().after(0, self._before)
            self._best_adapter = self._parameters.adapter
        pace = Pace(time.perf_counter())
        while self._step < self.total and not self._best.is_over(self._options.patience):
            began = time.perf_counter()
            numbers = self._order.of_step(self._step)
            loss, norm, rate = self._learn(numbers)
            tokens = sum(len(self._request.examples[number].tokens) for number in numbers)
            pace.step(tokens, time.perf_counter() - began)
            validation = yield from self._validate_if_due()
            sample = self._sample() if self._is_due(self._options.sample_every) else None
            if self._is_due(self._options.checkpoint_every) or self._step == self.total:
                self._save()
            yield from self._told(
                TrainingProgress(
                    self._step,
                    self.total,
                    f"step {self._step}, loss {loss:.3f}",
                    loss=loss,
                    validation=validation,
                    rate=rate,
                    gradient_norm=norm,
                    tokens_per_second=pace.tokens_per_second,
                    seconds_left=pace.seconds_left(self.total - self._step, time.perf_counter()),
                    adapter=self._parameters.adapter,
                    best=self._kept[0],
                    best_step=self._kept[1],
                    sample=sample,
                )
            )
        kept, best_step = self._kept
        return Trained(
            kept,
            self._step,
            best_step,
            float(np.mean(self._losses)),
            self._best.loss if self._request.validation else None,
            self._before,
        )

    def resume(self) -> None:
        """Become the run that was kept. Raises as `Checkpoints.load` does."""
        assert self._checkpoints is not None
        state = self._checkpoints.load(self._parameters.adapter)
        self._parameters.adapter = state.adapter
        self._parameters.optimiser.restore(state.optimiser)
        self._step = self._saved = state.step
        self._losses.extend(state.losses)
        self._best, self._best_adapter = state.best, state.best_adapter
        self._before = state.before

    @property
    def _kept(self) -> tuple[Adapter, int]:
        """The best adapter and after which step it was: until that was measured, the one there is."""
        if self._best_adapter is None or self._best.step == self._best.waited == 0:
            return self._parameters.adapter, self._step
        return self._best_adapter, self._best.step

    def _learn(self, numbers: list[int]) -> tuple[float, float, float]:
        """Take one step; return its mean loss, the norm of the gradient and the rate."""
        options, batch = self._options, self._options.batch
        examples = [self._request.examples[number] for number in numbers]
        gradients: Gradients | None = None
        state = self._attach(self._parameters.adapter)
        for part in range(options.accumulation):
            seed = np.random.SeedSequence([options.seed, self._step, part]).generate_state(1)
            dropout = Dropout(options.dropout, int(seed[0]))
            batched = examples[part * batch : (part + 1) * batch]
            with self._diverging():
                found = self._request.engine.gradients(batched, state, train=self._key, dropout=dropout)
            gradients = added(gradients, found)
        assert gradients is not None
        warm_up = round(options.warm_up * self.total)
        rate = options.learning_rate * rate_at(self._step, self.total, options.schedule, warm_up)
        norm = self._parameters.follow(gradients, rate)
        self._step += 1
        self._losses.append(gradients.loss.mean)
        return gradients.loss.mean, norm, rate

    @contextmanager
    def _diverging(self) -> Iterator[None]:
        """Say of numbers that leave float32 after a step that the step was too long: no scale is to blame."""
        try:
            yield
        except NotFiniteError as error:
            if self._step:
                raise NotFiniteError(error.message, remedy="Lower the learning rate") from error
            raise

    def _attach(self, adapter: Adapter) -> BlendState:
        """Let the engine hear an adapter beside the others."""
        self._request.engine.attach({**self._request.beside, self._key: adapter})
        return BlendState((*self._request.state.channels, BlendChannel(self._key, adapter.version, 1.0)))

    def _is_due(self, every: int) -> bool:
        return every > 0 and self._step % every == 0

    def _validate_if_due(self) -> Generator[Progress, None, float | None]:
        due = self._is_due(self._options.validate_every) or self._step == self.total
        if not (due and self._request.validation):
            return None
        loss = yield from self._validate()
        best = self._best.after(self._step, loss)
        if best.step == self._step:
            self._best_adapter = self._parameters.adapter
        self._best = best
        return loss

    def _validate(self) -> Generator[Progress, None, float]:
        """Return the mean loss of the validation examples."""
        examples, total = self._request.validation, Loss(0.0, 0.0)
        state = self._attach(self._parameters.adapter)
        for first in range(0, len(examples), VALIDATED_AT_ONCE):
            yield Progress(self._step, self.total, f"Validating {first + 1} of {len(examples)}")
            with self._diverging():
                total += self._request.engine.losses(examples[first : first + VALIDATED_AT_ONCE], [state])[0]
        return total.mean

    def _sample(self) -> str | None:
        """Return how the model goes on from the prompt."""
        prompt, sampling = self._request.prompt, Sampling(self._options.sample_tokens)
        if not prompt:
            return None
        state = self._attach(self._parameters.adapter)
        end = self._tokenizer.end_tokens
        return self._tokenizer.decode(self._request.engine.generate(prompt, state, sampling, stop=end))

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return tokenizer_from_metadata(self._request.base.metadata, self._request.base.path)

    def _told(self, progress: TrainingProgress) -> Work:
        """Tell how far the run is; whoever ends it here can resume it here."""
        try:
            yield progress
        except GeneratorExit:
            self._save()
            raise

    def _save(self) -> None:
        if self._checkpoints is not None and self._saved != self._step:
            self._saved = self._step
            self._checkpoints.save(
                RunState(
                    self._step,
                    self._parameters.adapter,
                    self._parameters.optimiser.state(),
                    tuple(self._losses),
                    self._best,
                    self._kept[0],
                    self._before,
                )
            )


def _free_key(request: TrainingRequest) -> str:
    """Return the adapter's name, longer where an adapter beside it has that as its key."""
    key = request.name
    while key in request.beside:
        key += "'"
    return key
