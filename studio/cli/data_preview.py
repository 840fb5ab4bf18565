"""What the model will see of training data, printed."""

import json
from collections.abc import Sequence

import typer

from studio.contracts import Example
from studio.engine.tokenizer import Tokenizer
from studio.learning.preview import preview, runs


def print_preview(examples: Sequence[Example], tokenizer: Tokenizer, count: int) -> None:
    """Print the first examples: each stretch of text on a line of its own, grey where it is only read."""
    for number, example in enumerate(examples[:count], start=1):
        seen = preview(example, tokenizer)
        predicted = sum(token.predicted for token in seen)
        typer.echo(f"example {number}: {len(seen)} tokens, {predicted} predicted")
        for run in runs(seen):
            label = "predicted" if run.predicted else "read"
            line = f"  {label:9}  {json.dumps(run.text, ensure_ascii=False)}"
            typer.echo(line if run.predicted else typer.style(line, dim=True))
