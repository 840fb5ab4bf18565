"""`lora-studio tokenize`: text to token ids and pieces, as the model's own tokenizer has them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from studio.cli.command_line import Base, Json, exactly_one, parse_path
from studio.cli.output import print_json, print_table
from studio.cli.texts import check_text, read_text
from studio.errors import FormatError


def tokenize(
    context: typer.Context,
    base: Base,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="The text.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="F", help="Read the text from a UTF-8 file.", parser=parse_path),
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            "--jsonl",
            metavar="F",
            help="One JSON string a line in, one list of ids a line out.",
            parser=parse_path,
        ),
    ] = None,
    special: Annotated[
        bool,
        typer.Option(
            "--special/--no-special", help="Add BOS/EOS as the model asks, and parse control tokens."
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """Show the token ids and pieces of a text. BASE may be a vocabulary-only GGUF."""
    exactly_one(TEXT=text, **{"--file": file, "--jsonl": jsonl})
    from studio.cli.opening import open_session, tokenizer_of
    from studio.registry import load_plugins

    with open_session(base, None, load_plugins(context.obj.safe_mode)) as session:
        tokenizer = tokenizer_of(session)
    if jsonl is not None:
        for line in read_strings(jsonl):
            print(json.dumps(tokenizer.encode(line, add_special=special, parse_special=special)))
        return
    whole = read_text(file) if file is not None else check_text(text or "")
    ids = tokenizer.encode(whole, add_special=special, parse_special=special)
    pieces = [tokenizer.piece(token) for token in ids]
    if as_json:
        print_json({"ids": ids, "pieces": pieces})
    else:
        print_table([[str(token), repr(piece)] for token, piece in zip(ids, pieces, strict=True)], right=[0])


def read_strings(path: Path) -> Iterator[str]:
    """Yield the strings of a JSON-lines file.

    Raises
    ------
    FormatError
        If a line is no JSON string, naming the line.
    """
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, str):
            raise FormatError("not a JSON string", path=path, where=f"line {number}")
        yield check_text(value, path=path, where=f"line {number}")
