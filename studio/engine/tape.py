"""Gradients by a tape: operators on traced arrays note how their gradients flow back, and the tape plays it.

Baydin et al. 2018, https://arxiv.org/abs/1502.05767, section 3.2: reverse mode. Models know nothing of it:
they call operators and the few methods of arrays that `Traced` has, on whichever arrays they are handed.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from studio.engine.backend import Array

Backward = "Callable[[Array], Sequence[Array | None]]"
"""Turns the gradient of an output into those of the first operands."""

Operator = TypeVar("Operator", bound="Callable[..., Any]")

_RULES: dict[Callable[..., Any], Callable[..., tuple[Array, Any]]] = {}


def operator(plain: Operator) -> Operator:
    """Let an operator ``(xp, *operands, **parameters)`` take traced arrays as well, once it has a rule."""

    @wraps(plain)
    def apply(xp: Any, *operands: Any, **parameters: Any) -> Any:
        for operand in operands:
            if isinstance(operand, Traced):
                return operand.tape.record(apply, xp, operands, parameters)
        return plain(xp, *operands, **parameters)

    return apply  # type: ignore[return-value]


def gradient_of(of: Callable[..., Any]) -> Callable[[Operator], Operator]:
    """Make a function the rule of an operator: called alike, it returns the output and its `Backward`."""

    def register(rule: Operator) -> Operator:
        _RULES[of] = rule
        return rule

    return register


class Tape:
    """What was computed, in its order.

    Parameters
    ----------
    xp
        The array module.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self._steps: list[tuple[Sequence[Traced], Callable[[], None]]] = []

    def record(
        self, of: Callable[..., Any], xp: Any, operands: Sequence[Any], parameters: dict[str, Any]
    ) -> Traced:
        """Apply an operator; note it where the gradient of one of its operands is wanted."""
        values = [operand.value if isinstance(operand, Traced) else operand for operand in operands]
        if not any(isinstance(operand, Traced) and operand.wanted for operand in operands):
            return Traced(self, of(xp, *values, **parameters), wanted=False)
        value, backward = _RULES[of](xp, *values, **parameters)
        output = Traced(self, value)

        def play() -> None:
            gradient = output.take_gradient()
            for operand, found in zip(operands, backward(gradient), strict=False):
                if isinstance(operand, Traced) and found is not None:
                    operand.receive(found)

        self.note((output,), play)
        return output

    def note(self, outputs: Sequence[Traced], play: Callable[[], None]) -> None:
        """Note a step: `play` hands the gradients of the outputs on, and is called if any of them has one."""
        self._steps.append((outputs, play))

    def play(self, output: Traced, gradient: Array) -> None:
        """Send the gradient of an output back to all that it was computed from, and empty the tape."""
        output.receive(gradient)
        while self._steps:
            outputs, play = self._steps.pop()  # what a step holds is let go of as soon as it was played
            if any(output.gradient is not None for output in outputs):
                play()


class Traced:
    """An array on a tape.

    Parameters
    ----------
    tape
        Where operators note what they did with it.
    value
        The array.
    wanted
        Whether anybody asks for its gradient: what is computed of others alone is not noted.
    """

    __slots__ = ("_owned", "gradient", "tape", "value", "wanted")
    __array_ufunc__ = None  # so that `array + traced` asks the traced one

    def __init__(self, tape: Tape, value: Array, *, wanted: bool = True) -> None:
        self.tape = tape
        self.value = value
        self.wanted = wanted
        self.gradient: Array | None = None
        self._owned = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's."""
        shape: tuple[int, ...] = self.value.shape
        return shape

    def receive(self, gradient: Array, place: Any = None) -> None:
        """Add to the gradient, everywhere or at an index."""
        if not self.wanted:
            return
        if self.gradient is None and place is None:
            self.gradient = gradient  # somebody else may hold it too: it is not written to
            return
        if self.gradient is None:
            self.gradient = self.tape.xp.zeros_like(self.value)
        elif not self._owned:
            self.gradient = self.gradient.copy()
        self._owned = True
        if place is None:
            self.gradient += gradient
        else:
            self.gradient[place] += gradient

    def take_gradient(self) -> Array:
        """Return the gradient and let go of it."""
        gradient, self.gradient, self._owned = self.gradient, None, False
        return self.tape.xp.zeros_like(self.value) if gradient is None else gradient

    def reshape(self, *shape: Any) -> Traced:
        """Reshape as arrays do."""
        own = self.shape
        return self._derived(self.value.reshape(*shape), lambda gradient: gradient.reshape(own))

    def transpose(self, *axes: int) -> Traced:
        """Transpose as arrays do."""
        back = [axes.index(axis) for axis in range(len(axes))]
        return self._derived(self.value.transpose(*axes), lambda gradient: gradient.transpose(*back))

    def __getitem__(self, place: Any) -> Traced:
        """Take a part; no value of it may be in it twice."""
        part = Traced(self.tape, self.value[place], wanted=self.wanted)
        if self.wanted:
            self.tape.note((part,), lambda: self.receive(part.take_gradient(), place))
        return part

    def __add__(self, other: Any) -> Traced:
        """Add an array of the same shape, traced or not, or one that is constant."""
        if not isinstance(other, Traced):
            return self._derived(self.value + other, lambda gradient: gradient)
        total = Traced(self.tape, self.value + other.value, wanted=self.wanted or other.wanted)
        if total.wanted:

            def play() -> None:
                gradient = total.take_gradient()
                self.receive(gradient)
                other.receive(gradient)

            self.tape.note((total,), play)
        return total

    __radd__ = __add__

    def __mul__(self, factor: Any) -> Traced:
        """Multiply by a number or an array; one that was repeated has its gradient summed."""
        if not isinstance(factor, Traced):
            return self._derived(self.value * factor, lambda gradient: gradient * factor)
        product = Traced(self.tape, self.value * factor.value, wanted=self.wanted or factor.wanted)
        if product.wanted:

            def play() -> None:
                gradient = product.take_gradient()
                self.receive(_summed(gradient * factor.value, self.shape))
                factor.receive(_summed(gradient * self.value, factor.shape))

            self.tape.note((product,), play)
        return product

    __rmul__ = __mul__

    def _derived(self, value: Array, backward: Callable[[Array], Array]) -> Traced:
        derived = Traced(self.tape, value, wanted=self.wanted)
        if self.wanted:
            self.tape.note((derived,), lambda: self.receive(backward(derived.take_gradient())))
        return derived


def _summed(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which an operand of this shape was repeated."""
    for axis, size in enumerate(shape):
        if size == 1 and gradient.shape[axis] > 1:
            gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient
