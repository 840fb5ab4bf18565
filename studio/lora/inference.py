"""A base and a stack asked for logits, without a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from studio.contracts import BASE_ALONE, Example
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.memory_pool import MemoryPool
from studio.errors import MismatchError
from studio.lora.adapter import Adapter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from studio.contracts import BaseModel, BlendState, FloatArray
    from studio.lora.stack import LoraStack


@dataclass
class SequenceCache:
    """A sequence that grows; its keys and values are the engine's, as long as it has room for them."""

    tokens: tuple[int, ...] = ()


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
        return self._engine.evaluate(tokens, self._attached(lora)).logits

    def create_kv_cache(self) -> SequenceCache:
        """Return a cache for a sequence that is fed bit by bit."""
        return SequenceCache()

    def forward_cache(
        self, cache: SequenceCache, tokens: Sequence[int], lora: LoraStack | None = None
    ) -> FloatArray:
        """Append tokens to a cached sequence, and return the logits ``[vocab]`` after the last of them.

        Only what is new runs, while the blend stays. A changed blend is heard in the whole sequence.
        """
        logits = self.forward([*cache.tokens, *tokens], lora)
        cache.tokens = (*cache.tokens, *tokens)
        return logits

    def create_memory_pool(self) -> MemoryPool:
        """Return a pool for sequences of sizes that come again."""
        return MemoryPool()

    def forward_pool(
        self, pool: MemoryPool, tokens: Sequence[int], lora: LoraStack | None = None
    ) -> FloatArray:
        """Return the logits ``[vocab]`` after the last token, run from the first one in pooled memory."""
        return self._engine.evaluate_pooled([tokens], [self._attached(lora)], pool)[0].logits

    def forward_batch(
        self, sequences: Sequence[Sequence[int]], lora: LoraStack | None = None
    ) -> list[FloatArray]:
        """Return the logits ``[vocab]`` after the last token of each sequence; lengths may differ."""
        state = self._attached(lora)
        results = self._engine.evaluate_batch(sequences, [state] * len(sequences))
        return [result.logits for result in results]

    def backward(self, tokens: Sequence[int], lora: LoraStack, key: str) -> float:
        """Return the mean loss of each token after those before it, in nats.

        Its gradients are added to the storage of one adapter's weights (`Adapter.get_weight`).

        Parameters
        ----------
        tokens
            At least two.
        lora
            The blend.
        key
            Which of its adapters learns, as `LoraStack.push` named it.

        Raises
        ------
        MismatchError
            The stack has no such adapter, or it shows no factors.
        """
        adapter = lora.by_key.get(key)
        if not isinstance(adapter, Adapter):
            raise MismatchError(
                "the stack has no adapter of factors there", where=key, remedy="Give a key that push returned"
            )
        state = self._attached(lora)
        found = self._engine.gradients([Example.of(tokens)], state, train=key)
        for module, gradients in found.factors.items():
            adapter.get_weight(module, "a").gradient[...] += gradients.a / found.loss.weight
            adapter.get_weight(module, "b").gradient[...] += gradients.b / found.loss.weight
        return found.loss.mean

    def _attached(self, lora: LoraStack | None) -> BlendState:
        """Attach a stack's adapters, and return its blend."""
        if lora is None:
            return BASE_ALONE
        self._engine.attach(lora.by_key)
        return lora.blend
