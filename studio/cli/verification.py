"""What the commands that verify an export share: the texts, the work, and how its result is shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studio.cli.command_line import parse_path
from studio.cli.texts import check_text, read_text
from studio.contracts import Plugins
from studio.session.session import Session

if TYPE_CHECKING:
    from studio.jobs.verifying import Agreement

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


def verify_export(
    session: Session,
    exported: Path,
    plugins: Plugins,
    texts: Sequence[str],
    backend: str = "auto",
    weights: Any = "auto",
) -> "Agreement":
    """Verify an exported file against the session's blend, with progress on stderr.

    Raises
    ------
    StudioError
        The base has no tokenizer or cannot run, or the file cannot be read.
    """
    from studio.cli.opening import tokenizer_of
    from studio.cli.output import finish
    from studio.contracts import ExportRequest
    from studio.engine.backend import choose_backend
    from studio.engine.local import LocalEngine
    from studio.jobs.verifying import verify

    assert session.base is not None
    tokenizer = tokenizer_of(session)
    request = ExportRequest(session.base, session.stack.by_key, session.stack.blend)
    tokens = [tokenizer.encode(text) for text in texts]
    agreement: Agreement = finish(
        verify(request, exported, tokens, plugins, lambda: LocalEngine(choose_backend(backend), weights))
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
        "top1": agreement.top1,
        "max_error": agreement.max_error,
        "relative_error": agreement.relative_error,
        "modules": {one.module: {"kept": one.kept, "error": one.error} for one in agreement.modules},
    }


def show_agreement(agreement: "Agreement") -> None:
    """Print the result for people."""
    mean, most = agreement.mean_kl, agreement.max_kl
    print(f"distance    {mean:.3g} nats on average, {most:.3g} at most, KL(live || file)")
    print(f"effect      {agreement.effect:.3g} nats on average, KL(live || base)")
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
