"""Training as a job: from files and options to a run, and the run that the studio's own trainers make."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.contracts import BASE_ALONE, LowRankAdapter, Optimisation, Progress, Trained, TrainingRequest
from studio.errors import CancelledError, PluginError, StudioError, UnsupportedError
from studio.formats.atomic import holding_folder
from studio.jobs.training_identity import run_identity
from studio.learning.adamw import AdamW, AdamWOptions
from studio.learning.checkpoint import Checkpoints
from studio.learning.data import MAX_LENGTH, read_examples
from studio.learning.memory import check_memory, factor_bytes
from studio.learning.options import split_targets
from studio.learning.run import TrainingRun
from studio.learning.validation import hold_out
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.creation import create_adapter
from studio.lora.report import as_adapter, bind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from studio.contracts import (
        BaseModel,
        BlendState,
        DeltaAdapter,
        Example,
        LearningEngine,
        Trainer,
        Work,
    )
    from studio.engine.tokenizer import Tokenizer
    from studio.learning.options import LoraOptions


@dataclass(frozen=True)
class TrainingPlan:
    """What somebody wants trained, as a dialog or the command line says it.

    Attributes
    ----------
    data
        A file to learn from, as `read_examples` takes it.
    trainer, options
        Who trains, and its options.
    optimisation
        How factors follow their gradients; None leaves it to the trainer.
    validation
        A file that is only measured; None holds out a share of the data.
    held_out, held_out_seed
        That share, below 1, and the seed of its choice.
    max_length
        How many tokens an example has at most.
    pack
        Whether texts of JSON lines follow one another in examples of the full length.
    name
        What to call the adapter.
    prompt
        A text that samples go on from; empty makes none.
    start
        An adapter to begin with.
    beside, state
        Adapters that are heard while the new one learns, by key, and how loud.
    checkpoints
        A folder to keep the run in.
    resume
        Whether to go on from there.
    """

    data: Path
    trainer: Trainer
    options: Any
    optimisation: Optimisation | None = None
    validation: Path | None = None
    held_out: float = 0.0
    held_out_seed: int = 0
    max_length: int = MAX_LENGTH
    pack: bool = False
    name: str = "trained"
    prompt: str = ""
    start: DeltaAdapter | None = None
    beside: Mapping[str, DeltaAdapter] | None = None
    state: BlendState = BASE_ALONE
    checkpoints: Path | None = None
    resume: bool = False


def start_training(plan: TrainingPlan, base: BaseModel, tokenizer: Tokenizer, engine: LearningEngine) -> Work:
    """Read what a plan names, train, and return a `Trained`; the one way every face starts a run.

    Parameters
    ----------
    plan
        What is wanted.
    base, tokenizer
        The base, and its tokenizer.
    engine
        One for this run alone, with the base open; it stays open.

    Raises
    ------
    StudioError
        The files or options are not fit to train with, the run cannot fit, or learning went astray.
    PluginError
        The trainer breaks down.
    """
    yield Progress(0, 0, f"Reading {plan.data.name}")
    request = prepare_training(plan, base, tokenizer, engine)
    yield Progress(0, 0, f"{plan.data.name}: {request.examples}")
    try:
        trained = yield from plan.trainer.train(request, plan.options)
    except (StudioError, CancelledError, OSError, MemoryError):
        raise
    except Exception as error:
        raise PluginError(
            f"it broke down: {type(error).__name__}: {error}", where=f"trainer {plan.trainer.name}"
        ) from error
    if not isinstance(trained, Trained):
        raise PluginError(
            f"it returned {type(trained).__name__}, not Trained", where=f"trainer {plan.trainer.name}"
        )
    return trained


def prepare_training(
    plan: TrainingPlan, base: BaseModel, tokenizer: Tokenizer, engine: LearningEngine
) -> TrainingRequest:
    """Read what a plan names, and return what its trainer gets. Raises `StudioError`."""
    length = min(plan.max_length, engine.context_length)
    examples = read_examples(plan.data, tokenizer, max_length=length, pack=plan.pack)
    validation: Sequence[Example] = ()
    if plan.validation is not None:
        validation = read_examples(plan.validation, tokenizer, max_length=length, pack=plan.pack)
    elif plan.held_out:
        learnt, validation = hold_out(examples, plan.held_out, plan.held_out_seed)
        examples = replace(examples, items=learnt)
    if plan.start is not None and not isinstance(plan.start, LowRankAdapter):
        raise UnsupportedError(
            f"{plan.start.name} shows no factors that could learn on",
            remedy="Begin with a LoRA adapter, or with a new one",
        )
    return TrainingRequest(
        base,
        engine,
        examples,
        validation,
        name=plan.name,
        start=plan.start,
        beside=plan.beside or {},
        state=plan.state,
        optimisation=plan.optimisation,
        prompt=tuple(tokenizer.encode(plan.prompt)) if plan.prompt else (),
        checkpoints=plan.checkpoints,
        resume=plan.resume,
    )


def train_adapter(request: TrainingRequest, options: LoraOptions, trainer: str = "LoRA") -> Work:
    """Train an adapter as its options say, and return a `Trained`: what the studio's own trainers do.

    Parameters
    ----------
    request
        What to learn, and on what.
    options
        How.
    trainer
        Who trains: a checkpoint of another trainer is not continued.

    Raises
    ------
    StudioError
        The options are not fit to train with, the memory or the disk does not suffice, or a checkpoint is of
        another run.
    EngineError
        A loss or a gradient is not finite.
    """
    if not request.examples:
        raise StudioError("there is nothing to learn", remedy="Give at least one example")
    if options.patience and not request.validation:
        raise StudioError(
            "nothing is measured that it could wait for",
            where="patience",
            remedy="Give a validation file, hold a share of the data out, or leave it at 0",
        )
    check_memory(request, options)
    run = _prepared(request, options, trainer)
    with nullcontext() if request.checkpoints is None else holding_folder(request.checkpoints):
        if request.checkpoints is not None and request.resume:
            run.resume()
        return (yield from run.work())


def _prepared(request: TrainingRequest, options: LoraOptions, trainer: str) -> TrainingRun:
    """Return the run at its first step, with room for its checkpoints."""
    optimisation = request.optimisation or Optimisation(AdamW(), AdamWOptions())
    adapter = _beginning(request, options)
    optimiser = optimisation.optimiser.start(optimisation.options)
    if request.checkpoints is None:
        return TrainingRun(request, options, adapter, optimiser)
    checkpoints = Checkpoints(request.checkpoints, run_identity(request, options, optimisation, trainer))
    if not request.resume:
        checkpoints.begin(4 * factor_bytes(request.base, request.start, options))
    return TrainingRun(request, options, adapter, optimiser, checkpoints)


def _beginning(request: TrainingRequest, options: LoraOptions) -> Adapter:
    """Return the adapter as the run begins."""
    if request.start is None:
        return create_adapter(
            request.base,
            rank=options.rank,
            alpha=options.alpha,
            targets=split_targets(options),
            rank_stabilised=options.rank_stabilised,
            start=options.start,
            seed=options.seed,
            name=request.name,
        )
    bound, _ = bind(as_adapter(request.start), request.base)
    return Adapter(
        request.name,
        {module: _rescaled(pair, options) for module, pair in bound.factors.items()},
        format="trainable",
        architecture=request.base.architecture,
        trainable=True,
    )


def _rescaled(pair: LoraFactors, options: LoraOptions) -> LoraFactors:
    """Return the same delta with the alpha that is asked for: steps are as large as those of a new adapter.

    Files hold alphas that suit their numbers, not who learns on.
    """
    own = replace(pair, alpha=options.alpha, rank_stabilised=options.rank_stabilised)
    return replace(own, b=pair.b * np.float32(pair.scaling / own.scaling)) if own.scaling else pair
