"""Decoding: tokens a second after a prompt of 64, with 3, 0 and 8 adapters, compiled kernels loaded."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.demo import PROMPT_LENGTH, TEXT
from benchmarks.llama_cpp import LlamaCpp
from benchmarks.rounds import NewScales, interleave
from benchmarks.row import Row
from benchmarks.sides import Ours, open_sides
from studio.engine.tokenizer import tokenizer_from_metadata
from studio.errors import StudioError
from studio.formats.gguf_file import GgufFile
from studio.resources import GEMMA_BASE, resolve

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.run import Run
    from benchmarks.sides import Side

COUNTS = (3, 0, 8)
NEW_TOKENS = 32
ROUNDS = 9


def main(run: Run) -> None:
    """Report a row for each count, and one of Gemma 3 270M alone where it is installed."""
    new_scales = NewScales()
    with open_sides(run, max(COUNTS)) as sides:
        sides.ours.engine.prepare()
        works = [partial(side.decode, sides.demo.tokens(), NEW_TOKENS) for side in sides]
        for count in COUNTS:
            speeds = interleave(run.rounds or ROUNDS, partial(new_scales, count), works)
            conditions = {"adapters": count, "tokens": PROMPT_LENGTH, "new tokens": NEW_TOKENS}
            run.report(Row("decode", "tokens/s", conditions, speeds, their_settings=sides.their_settings))
    try:
        gemma = resolve(GEMMA_BASE)
    except StudioError:  # its group is not installed
        return
    decode_alone(run, gemma, "decode, Gemma 3 270M")


def decode_alone(run: Run, path: Path, name: str) -> None:
    """Report how fast a base without adapters decodes."""
    with ExitStack() as stack:
        base = GgufFile.open(path)
        stack.callback(base.close)
        tokens = tokenizer_from_metadata(base.metadata).encode(TEXT)[:PROMPT_LENGTH]
        ours = Ours(base, [])
        stack.callback(ours.engine.close)
        ours.engine.prepare()
        sides: list[Side] = [ours]
        settings = None
        if run.peers:
            theirs = stack.enter_context(LlamaCpp.fastest(run.peers, path, [], tokens))
            settings = theirs.settings.as_fields()
            sides.append(theirs)
        works = [partial(side.decode, tokens, NEW_TOKENS) for side in sides]
        speeds = interleave(run.rounds or ROUNDS, list[float], works)
        conditions = {"adapters": 0, "tokens": PROMPT_LENGTH, "new tokens": NEW_TOKENS}
        run.report(Row(name, "tokens/s", conditions, speeds, their_settings=settings))
