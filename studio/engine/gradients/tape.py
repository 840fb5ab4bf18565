"""Gradients by a tape: what is done with traced arrays is noted, and the tape plays it backwards.

Baydin et al. 2018, https://arxiv.org/abs/1502.05767, section 3.2: reverse mode. Models know nothing of it:
they call operators and the few methods of arrays that `Traced` has, on whichever arrays they are handed.

Little is remembered. A note holds the arrays that its way back needs, and no others; of those, the ones that
are cheap to compute (norms, activations, turned queries) are forgotten when a layer is done, and computed
again on the way back.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from studio.engine.compiled_numpy import CompiledNumpy
from studio.engine.gradients.traced import Slot, Traced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from studio.engine.backend import Array

Operator = TypeVar("Operator", bound="Callable[..., Any]")

RULES: dict[Callable[..., Any], Callable[..., Sequence[Array]]] = {}
"""The rule of each operator."""

_CHEAP: set[Callable[..., Any]] = set()


def operator(plain: Operator) -> Operator:
    """Let an operator ``(xp, *operands, **parameters)`` take traced arrays as well, once it has a rule."""

    @wraps(plain)
    def apply(xp: Any, *operands: Any, **parameters: Any) -> Any:
        for operand in operands:
            if isinstance(operand, Traced):
                return operand.tape.record(apply, xp, operands, parameters)
        if isinstance(xp, CompiledNumpy):
            return xp.operators.get(apply, plain)(xp, *operands, **parameters)
        return plain(xp, *operands, **parameters)

    return apply  # type: ignore[return-value]


def cheap(of: Operator) -> Operator:
    """Mark an operator whose result is not worth remembering: it is computed again."""
    _CHEAP.add(of)
    return of


def gradient_of(of: Callable[..., Any]) -> Callable[[Operator], Operator]:
    """Make a function the rule of an operator.

    It is called as its operator is, with the gradient of the output before the operands, and returns those of
    the first operands.
    """

    def register(rule: Operator) -> Operator:
        RULES[of] = rule
        return rule

    return register


def rule_of(xp: Any, of: Callable[..., Any]) -> Callable[..., Sequence[Array]]:
    """Return the rule of an operator, on an array module."""
    compiled = xp.rules.get(of) if isinstance(xp, CompiledNumpy) else None
    return compiled or RULES[of]


class Tape:
    """What was computed, in its order; cleared at the end of a ``with``.

    Parameters
    ----------
    xp
        The array module.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self._notes: list[tuple[Sequence[Slot], Callable[[], None]]] = []
        self._forgettable: list[Traced] = []

    def __enter__(self) -> Tape:
        """Begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """Clear it: notes and arrays hold each other, and would wait for the garbage collector."""
        self.clear()

    def record(
        self, of: Callable[..., Any], xp: Any, operands: Sequence[Any], parameters: dict[str, Any]
    ) -> Traced:
        """Apply an operator; note it where the gradient of one of its operands is wanted."""

        def compute() -> Array:
            return of(xp, *(_value(operand) for operand in operands), **parameters)

        wanted = any(isinstance(operand, Traced) and operand.slot.wanted for operand in operands)
        output = self.trace(compute(), wanted=wanted, again=compute if of in _CHEAP else None)
        if wanted:
            slot = output.slot  # alone: a note does not hold its output

            def play() -> None:
                values = [_value(operand) for operand in operands]
                found = rule_of(xp, of)(xp, slot.take(), *values, **parameters)
                for operand, gradient in zip(operands, found, strict=False):
                    if isinstance(operand, Traced):
                        operand.slot.receive(gradient)

            self.note((slot,), play)
        return output

    def trace(self, value: Array, *, wanted: bool = True, again: Callable[[], Array] | None = None) -> Traced:
        """Put an array on the tape.

        Parameters
        ----------
        wanted
            Whether anybody asks for its gradient: what is computed of others alone is not noted.
        again
            Computes it anew, from what is remembered longer; None for what is remembered itself.
        """
        traced = Traced(self, value, Slot(self.xp, value, wanted), again)
        if again is not None and wanted:
            self._forgettable.append(traced)
        return traced

    def note(self, outputs: Sequence[Slot], play: Callable[[], None]) -> None:
        """Note a step: `play` hands the gradients of the outputs on, and is called if any of them has one."""
        self._notes.append((outputs, play))

    def forget(self) -> None:
        """Let go of all values so far that can be computed again."""
        for traced in self._forgettable:
            traced.forget()
        self._forgettable = []

    def clear(self) -> None:
        """Let go of all that was noted so far: no gradient will be asked for."""
        self._notes, self._forgettable = [], []

    def play(self, output: Traced, gradient: Array) -> None:
        """Send the gradient of an output back to all that it was computed from, and empty the tape."""
        self._forgettable = []  # what is still there is wanted at once
        output.slot.receive(gradient)
        while self._notes:
            outputs, play = self._notes.pop()  # what a note holds is let go of as soon as it was played
            if any(slot.gradient is not None for slot in outputs):
                play()


def _value(operand: Any) -> Any:
    return operand.value if isinstance(operand, Traced) else operand
