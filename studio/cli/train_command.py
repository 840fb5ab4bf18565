"""`lora-studio train`: teach a base from a file, and write what it learnt as an adapter."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from studio.cli.command_line import (
    AdapterGains,
    Adapters,
    Backend,
    Base,
    ExporterOptions,
    Json,
    LoaderOptions,
    Residency,
    exactly_one,
    parse_options,
    parse_path,
)
from studio.contracts import Plugins


def train(
    context: typer.Context,
    base: Base,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="F",
            help="What to learn: plain text, or JSON lines with text, prompt and completion, or messages.",
            parser=parse_path,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="The file or folder to write.", parser=parse_path),
    ] = None,
    rank: Annotated[int | None, typer.Option("--rank", metavar="R", help="Of every weight (8).")] = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", metavar="A", help="The delta is scaled by alpha / rank (16).")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option("--targets", metavar="T,...", help="all-linear (the default), attn_q, ffn_*, ..."),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", min=1, help="How many.")] = None,
    epochs: Annotated[
        float | None, typer.Option("--epochs", metavar="N", help="How often each example is seen (1).")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--lr", metavar="X", help="The learning rate after warming up.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="S", help="cosine (the default), linear, constant.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="N", help="Examples that run side by side (1).")
    ] = None,
    max_length: Annotated[
        int, typer.Option("--max-length", metavar="N", min=2, help="The longest example, in tokens.")
    ] = 512,
    pack: Annotated[bool, typer.Option("--pack", help="Put texts of JSON lines one after another.")] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="S", help="Of all that is random (0).")
    ] = None,
    quantise: Annotated[
        Literal["nf4"] | None, typer.Option("--quantise", help="Make a float base smaller (QLoRA).")
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            "--validation",
            metavar="F",
            help="What is only measured; the best adapter is kept.",
            parser=parse_path,
        ),
    ] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", metavar="SHARE", help="Measure on this share of the data instead.")
    ] = 0.0,
    start: Annotated[
        str | None, typer.Option("--start", metavar="PATH", help="An adapter to begin with.")
    ] = None,
    adapter: Adapters = None,
    gains: AdapterGains = None,
    loader_option: LoaderOptions = None,
    preview: Annotated[
        int | None,
        typer.Option(
            "--preview", metavar="N", min=1, help="Show what the model would see of N examples, and leave."
        ),
    ] = None,
    sample: Annotated[
        str | None, typer.Option("--sample", metavar="TEXT", help="Show now and then how it goes on.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="DIR", help="A folder to keep the run in.", parser=parse_path),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="DIR", help="Go on with the run in a folder.", parser=parse_path),
    ] = None,
    trainer: Annotated[
        str | None, typer.Option("--trainer", metavar="NAME", help="LoRA (the default), QLoRA, a plugin's.")
    ] = None,
    trainer_option: Annotated[
        list[str] | None,
        typer.Option("--trainer-option", metavar="NAME=VALUE", help="An option of the trainer. Repeatable."),
    ] = None,
    optimiser: Annotated[
        str | None, typer.Option("--optimiser", metavar="NAME", help="adamw (the default), sgd, a plugin's.")
    ] = None,
    optimiser_option: Annotated[
        list[str] | None,
        typer.Option("--optimiser-option", metavar="NAME=VALUE", help="An option of it. Repeatable."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="FORMAT", help="An exporter by (a part of) its name, such as peft."),
    ] = None,
    option: ExporterOptions = None,
    backend: Backend = "auto",
    weights: Residency = "auto",
    as_json: Json = False,
) -> None:
    """Train an adapter on a text or on examples.

    Without --to, a name that ends in .gguf is an adapter that llama.cpp loads, any other a PEFT directory.
    Ctrl-C ends the run after its step and writes the best.
    """
    exactly_one(**{"--output": out, "--preview": preview})
    from studio.cli.exporters import check_exporter_target, find_exporter
    from studio.cli.opening import known_options, open_adapter, open_engine, open_session, tokenizer_of
    from studio.cli.texts import check_text
    from studio.cli.trainers import find_optimisation, find_trainer
    from studio.cli.training_progress import run_training
    from studio.cli.training_result import Destination, conclude
    from studio.contracts import ExportRequest
    from studio.jobs.options import make_options
    from studio.jobs.training import TrainingPlan, start_training
    from studio.lora.provenance import files_in_use
    from studio.registry import load_plugins

    if preview is not None:
        _show_data(base, data, max_length, pack, preview, load_plugins(context.obj.safe_mode))
        return
    assert out is not None
    if checkpoint is not None and resume is not None:
        raise typer.BadParameter("a run is begun or resumed", param_hint="--checkpoint, --resume")
    if steps is not None and epochs is not None:
        raise typer.BadParameter("give one of them", param_hint="--steps, --epochs")
    if validation is not None and held_out:
        raise typer.BadParameter("give one of them", param_hint="--validation, --held-out")
    plugins = load_plugins(context.obj.safe_mode)
    destination = Destination(out, find_exporter(plugins, to, out), parse_options(option, "--option"))
    make_options(destination.exporter, destination.options)  # what it does not take is said before the work
    check_exporter_target(destination.exporter, out)
    values: dict[str, object] = {
        "rank": rank,
        "alpha": alpha,
        "targets": targets,
        "steps": steps,
        "epochs": epochs,
        "learning_rate": rate,
        "schedule": schedule,
        "batch": batch,
        "seed": seed,
        "quantise": quantise,
    }
    chosen, options = find_trainer(plugins, trainer, values, trainer_option)
    optimisation = find_optimisation(plugins, optimiser, optimiser_option)
    with open_session(base, adapter, plugins, loader_option, gains) as session:
        assert session.base is not None
        used = ExportRequest(session.base, session.stack.by_key, session.stack.blend)
        read = [file for file in (data, validation) if file is not None]
        check_exporter_target(destination.exporter, out, [*files_in_use(used), *read])
        loading = known_options(loader_option, plugins)
        plan = TrainingPlan(
            data,
            chosen,
            options,
            optimisation,
            validation=validation,
            held_out=held_out,
            max_length=max_length,
            pack=pack,
            name=out.stem,
            prompt=check_text(sample or ""),
            start=open_adapter(start, session.base, plugins, loading).adapter if start else None,
            beside=session.stack.by_key,
            state=session.stack.blend,
            checkpoints=checkpoint or resume,
            resume=resume is not None,
        )
        tokenizer = tokenizer_of(session)
        if quantise is not None and weights == "auto":
            weights = "quantised"  # the floats are only there until NF4 is made of them
        with open_engine(session, backend, weights) as engine:
            ended = run_training(start_training(plan, session.base, tokenizer, engine))
        conclude(ended, session.base, destination, as_json=as_json)


def _show_data(base: str, data: Path, max_length: int, pack: bool, count: int, plugins: Plugins) -> None:
    """Print what the model would see."""
    from studio.cli.data_preview import print_preview
    from studio.cli.opening import longest_example, open_session, tokenizer_of
    from studio.learning.data import read_examples

    with open_session(base, None, plugins) as session:
        assert session.base is not None
        tokenizer = tokenizer_of(session)
        length = longest_example(session.base, max_length)
        examples = read_examples(data, tokenizer, max_length=length, pack=pack)
    print_preview(examples, tokenizer, count)
    print(examples)
