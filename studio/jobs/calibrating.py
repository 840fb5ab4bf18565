"""Calibration: the second moments of a blend's inputs on a text, or on what the blend itself writes."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from studio.contracts import Progress, Sampling
from studio.engine.backend import choose_backend
from studio.engine.decoder import PASS_COLUMNS
from studio.engine.local import LocalEngine
from studio.engine.moments import MomentRecorder
from studio.engine.tokenizer import tokenizer_from_metadata
from studio.errors import EngineError, FormatError
from studio.jobs.parallel import in_parallel

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from studio.contracts import BaseModel, ExportRequest, Work

OWN_TEXTS = 16
"""How many texts a blend writes of itself to be calibrated on."""

OWN_TOKENS = 128
"""How long each of them is."""

MAX_TEXT_BYTES = 16 << 20
"""No calibration needs more text than this; a file that is larger was given by mistake."""

MAX_TEXT_TOKENS = 1 << 16
"""How many tokens of a text are read: a hundred times what a blend's own texts have."""


def text_windows(base: BaseModel, path: Path) -> list[tuple[int, ...]]:
    """Cut a UTF-8 text into windows of tokens that one pass takes.

    Raises
    ------
    FormatError
        The file cannot be read, is no text or too large, or has no tokens.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise FormatError(
                f"a calibration text of more than {MAX_TEXT_BYTES >> 20} MB", path=path, remedy="Shorten it"
            )
        text = path.read_bytes().decode()
    except OSError as error:
        raise FormatError(
            f"the calibration text cannot be read: {error.strerror}", path=path, remedy="Choose another"
        ) from None
    except UnicodeDecodeError:
        raise FormatError("it is no UTF-8 text", path=path, remedy="Choose another") from None
    tokens = tokenizer_from_metadata(base.metadata, base.path).encode(text)[:MAX_TEXT_TOKENS]
    if not tokens:
        raise FormatError("the calibration text is empty", path=path, remedy="Choose another")
    return [tuple(tokens[first : first + PASS_COLUMNS]) for first in range(0, len(tokens), PASS_COLUMNS)]


def own_windows(request: ExportRequest, seed: int) -> Work:
    """Let the blend write texts by itself, from nothing but the start of a text; return their tokens.

    Raises
    ------
    EngineError
        The base says by no token how a text starts.
    """
    start = _start_token(request.base)
    windows: list[tuple[int, ...]] = []
    with closing(LocalEngine(choose_backend("auto"))) as engine:
        engine.open(request.base)
        engine.attach(request.adapters)
        for number in range(OWN_TEXTS):
            sampling = Sampling(max_tokens=OWN_TOKENS, temperature=1.0, seed=seed + number)
            tokens = [start]
            for token in engine.generate([start], request.state, sampling):
                tokens.append(token)
                done = number * OWN_TOKENS + len(tokens)
                yield Progress(done, OWN_TEXTS * OWN_TOKENS, "Writing a text to calibrate on")
            windows.append(tuple(tokens))
    return windows


def second_moments(
    request: ExportRequest, windows: Sequence[Sequence[int]], modules: Collection[str]
) -> Work:
    """Let the blend read texts, and return the second moment of the inputs of some weights, by weight."""
    with closing(LocalEngine(choose_backend("auto"))) as engine:
        engine.open(request.base)
        engine.attach(request.adapters)
        recorder = MomentRecorder(engine, modules)
        done = 0
        # on a thread of its own, so that a long pass can be given up
        tasks = (partial(recorder.feed, window, request.state) for window in windows)
        with closing(in_parallel(tasks, workers=1)) as passes:
            for fed in passes:
                done += fed is not None
                yield Progress(done, len(windows), "Measuring activations")
        return recorder.moments()


def _start_token(base: BaseModel) -> int:
    for key in ("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"):
        token = base.metadata.get(key)
        if isinstance(token, int):
            return token
    raise EngineError(
        "the model says by no token how a text starts",
        where="tokenizer.ggml.bos_token_id",
        remedy="Give a calibration text",
    )
