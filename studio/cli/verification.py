"""What the commands that verify an export share: the texts, the work, and how its result is shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studio.cli.command_line import parse_path
from studio.cli.texts import check_text, read_text
from studio.contracts import Plugins
from studio.session.session import Session

if TYPE_CHECKING:
    from studio.contracts import ExportRequest
    from studio.jobs.agreement import Agreement

FAILED = 3
"""The exit code where a file was verified and found wanting."""

Verify = Annotated[
    bool,
    typer.Option(
        "--verify", help=f"Compare the written file with the live blend; exit with {FAILED} if it differs."
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", metavar="TEXT", help="A text to compare on. Repeatable."),
]
PromptFile = Annotated[
    Path | None,
    typer.Option("--file", metavar="F", help="Compare on a UTF-8 text file.", parser=parse_path),
]


def texts_of(prompts: Sequence[str] | None, file: Path | None) -> list[str]:
    """Return the texts to verify on: those given, or a few that come with the studio."""
    from studio.resources import verification_texts

    texts = [check_text(prompt, where="--prompt") for prompt in prompts or ()]
    if file is not None:
        texts.append(read_text(file))
    return texts or verification_texts()


def check_prompts(prompts: Sequence[str] | None, file: Path | None, *, verify: bool) -> None:
    """Refuse texts to verify on where nothing is verified.

    Raises
    ------
    typer.BadParameter
        Such a text is given without --verify.
    """
    if not verify and (prompts or file is not None):
        raise typer.BadParameter("it is a text for --verify", param_hint="--prompt" if prompts else "--file")


def verify_export(
    session: Session,
    request: "ExportRequest",
    exported: Path,
    plugins: Plugins,
    texts: Sequence[str],
    backend: str = "auto",
    weights: Any = "auto",
    options: Mapping[str, object] | None = None,
) -> "Agreement":
    """Verify an exported file against what was asked for, with progress on stderr.

    Parameters
    ----------
    session
        Its tokenizer cuts the texts.
    request
        The blend and, where there is one, the method it is combined by.
    exported, plugins, texts
        The file, whose loaders read it, and what to compare on.
    backend, weights
        Where and how it runs.
    options
        Of the loader that reads an exported adapter.

    Raises
    ------
    StudioError
        The base has no tokenizer or cannot run, or the file cannot be read.
    """
    from studio.cli.opening import tokenizer_of
    from studio.cli.output import finish
    from studio.engine.backend import choose_backend
    from studio.engine.local import LocalEngine
    from studio.jobs.verifying import verify

    tokenizer = tokenizer_of(session)
    tokens = [tokenizer.encode(text) for text in texts]
    agreement: Agreement = finish(
        verify(
            request,
            exported,
            tokens,
            plugins,
            lambda: LocalEngine(choose_backend(backend), weights),
            options or {},
        )
    )
    return agreement


def agreement_as_json(agreement: "Agreement") -> dict[str, Any]:
    """Put the result into plain values."""
    return {
        "passed": agreement.passed,
        "verdict": agreement.verdict,
        "bound": agreement.bound,
        "kind": agreement.kind,
        "type": agreement.type_name,
        "positions": agreement.positions,
        "mean_kl": agreement.mean_kl,
        "max_kl": agreement.max_kl,
        "effect": agreement.effect,
        "method": agreement.method or None,
        "moved": agreement.moved,
        "top1": agreement.top1,
        "max_error": agreement.max_error,
        "relative_error": agreement.relative_error,
        "modules": {one.module: {"kept": one.kept, "error": one.error} for one in agreement.modules},
    }


def show_agreement(agreement: "Agreement") -> None:
    """Print the result for people."""
    mean, most = agreement.mean_kl, agreement.max_kl
    blend = "combined" if agreement.method else "live"
    print(f"distance    {mean:.3g} nats on average, {most:.3g} at most, KL({blend} || file)")
    print(f"effect      {agreement.effect:.3g} nats on average, KL({blend} || base)")
    if agreement.method:
        print(f"method      {agreement.moved:.3g} nats on average, KL(combined || live): {agreement.method}")
    print(f"likeliest   the same token at {agreement.top1:.1%} of {agreement.positions} positions")
    print(f"logits      {agreement.relative_error:.2g} relative, {agreement.max_error:.3g} at most")
    if agreement.modules:
        kept = sorted(agreement.modules, key=lambda one: one.kept)
        middle = kept[len(kept) // 2]
        print(f"delta kept  {middle.kept:.1%} in the median module, {kept[0].kept:.1%} in {kept[0].module}")
    print(f"bound       {agreement.bound}: {'passed' if agreement.passed else 'FAILED'}")
    print(agreement.verdict)


def leave_if_failed(agreement: "Agreement | None") -> None:
    """End the command with its own exit code where a verified file was found wanting."""
    if agreement is not None and not agreement.passed:
        raise typer.Exit(FAILED)
