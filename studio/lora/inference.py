"""A base and a stack asked for logits, without a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from studio.contracts import BASE_ALONE
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from studio.contracts import BaseModel, FloatArray
    from studio.lora.stack import LoraStack


class Inference:
    """An engine with a base open. Use it in a ``with`` block, or call `close`.

    Parameters
    ----------
    base
        The model to run.
    backend
        ``auto``, ``numpy`` (the CPU) or ``cupy`` (an NVIDIA GPU).

    Raises
    ------
    UnsupportedError
        The base's architecture cannot be run.
    """

    def __init__(self, base: BaseModel, backend: str = "auto") -> None:
        self._engine = LocalEngine(choose_backend(backend))
        self._engine.open(base)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the weights."""
        self.close()

    def close(self) -> None:
        """Free the weights and the device."""
        self._engine.close()

    def forward(self, tokens: Sequence[int], lora: LoraStack | None = None) -> FloatArray:
        """Return the logits ``[vocab]`` after the last token, with a stack's blend or of the base alone.

        Raises
        ------
        EngineError
            There are no tokens, too many, or unknown ones.
        MismatchError
            An adapter on the stack is for other shapes.
        """
        if lora is not None:
            self._engine.attach(lora.by_key)
        return self._engine.evaluate(tokens, BASE_ALONE if lora is None else lora.blend).logits
