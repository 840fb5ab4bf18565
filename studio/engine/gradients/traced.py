"""An array on a tape, and the slot where its gradient is summed up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.engine.backend import Array
    from studio.engine.gradients.tape import Tape


class Slot:
    """Where the gradient of one array is summed up. It does not hold the array.

    Parameters
    ----------
    xp
        The array module.
    value
        The array.
    wanted
        Whether anybody asks for its gradient.

    Attributes
    ----------
    gradient
        None until a first one was received.
    """

    __slots__ = ("_dtype", "_owned", "_shape", "_xp", "gradient", "wanted")

    def __init__(self, xp: Any, value: Array, wanted: bool) -> None:
        self._xp = xp
        self._shape, self._dtype = value.shape, value.dtype
        self.wanted = wanted
        self.gradient: Array | None = None
        self._owned = False

    def receive(self, gradient: Array, place: Any = None) -> None:
        """Add to the gradient, everywhere or at an index that names no value twice."""
        if not self.wanted:
            return
        if self.gradient is None and place is None:
            self.gradient = gradient  # somebody else may hold it too: it is not written to
            return
        if self.gradient is None:
            self.gradient = self._zeros()
        elif not self._owned:
            self.gradient = self.gradient.copy()
        self._owned = True
        if place is None:
            self.gradient += gradient
        else:
            self.gradient[place] += gradient

    def take(self) -> Array:
        """Return the gradient, which is 0 where none was received, and let go of it."""
        gradient, self.gradient, self._owned = self.gradient, None, False
        return self._zeros() if gradient is None else gradient

    def _zeros(self) -> Array:
        return self._xp.zeros(self._shape, dtype=self._dtype)


class Traced:
    """An array on a tape; `Tape.trace` makes it.

    Parameters
    ----------
    tape
        Where operators note what they did with it.
    value
        The array.
    slot
        Where its gradient goes.
    again
        Computes the array anew; None for one that is remembered.
    """

    __slots__ = ("_again", "_value", "slot", "tape")
    __array_ufunc__ = None  # so that `array + traced` asks the traced one

    def __init__(self, tape: Tape, value: Array, slot: Slot, again: Callable[[], Array] | None) -> None:
        self.tape = tape
        self.slot = slot
        self._value: Array | None = value
        self._again = again

    @property
    def value(self) -> Array:
        """The array, computed anew where it was forgotten."""
        if self._value is None:
            assert self._again is not None
            self._value = self._again()
        return self._value

    def forget(self) -> None:
        """Let go of the array, which can be computed anew."""
        self._value = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's."""
        shape: tuple[int, ...] = self.value.shape
        return shape

    def reshape(self, *shape: Any) -> Traced:
        """Reshape as arrays do."""
        own = self.shape
        return self._derived(lambda value: value.reshape(*shape), lambda gradient: gradient.reshape(own))

    def transpose(self, *axes: int) -> Traced:
        """Transpose as arrays do."""
        back = [axes.index(axis) for axis in range(len(axes))]
        return self._derived(lambda value: value.transpose(*axes), lambda gradient: gradient.transpose(*back))

    def __getitem__(self, place: Any) -> Traced:
        """Take a part; no value of it may be in it twice."""
        if _is_everything(place):
            return self
        slot = self.slot
        part = self.tape.trace(self.value[place], wanted=slot.wanted, again=lambda: self.value[place])
        if slot.wanted:
            its = part.slot
            self.tape.note((its,), lambda: slot.receive(its.take(), place))
        return part

    def __add__(self, other: Any) -> Traced:
        """Add an array of the same shape, traced or not."""
        if not isinstance(other, Traced):
            return self._computed(self.value + other, lambda gradient: gradient)
        mine, its = self.slot, other.slot
        total = self.tape.trace(self.value + other.value, wanted=mine.wanted or its.wanted)
        if total.slot.wanted:
            slot = total.slot

            def play() -> None:
                gradient = slot.take()
                mine.receive(gradient)
                its.receive(gradient)

            self.tape.note((slot,), play)
        return total

    __radd__ = __add__

    def __mul__(self, factor: Any) -> Traced:
        """Multiply by a number or by an array; one that was repeated has its gradient summed."""
        if not isinstance(factor, Traced):
            return self._computed(self.value * factor, lambda gradient: gradient * factor)
        mine, its = self.slot, factor.slot
        product = self.tape.trace(self.value * factor.value, wanted=mine.wanted or its.wanted)
        if product.slot.wanted:
            slot = product.slot

            def play() -> None:
                gradient = slot.take()
                if mine.wanted:
                    mine.receive(_summed(gradient * factor.value, self.shape))
                if its.wanted:
                    its.receive(_summed(gradient * self.value, factor.shape))

            self.tape.note((slot,), play)
        return product

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Traced:
        """Divide by a number."""
        return self._computed(self.value / divisor, lambda gradient: gradient / divisor)

    def _derived(self, view: Callable[[Array], Array], backward: Callable[[Array], Array]) -> Traced:
        """Return a view of it."""
        return self._noted(
            self.tape.trace(view(self.value), wanted=self.slot.wanted, again=lambda: view(self.value)),
            backward,
        )

    def _computed(self, value: Array, backward: Callable[[Array], Array]) -> Traced:
        """Return an array that was made of it."""
        return self._noted(self.tape.trace(value, wanted=self.slot.wanted), backward)

    def _noted(self, output: Traced, backward: Callable[[Array], Array]) -> Traced:
        mine, its = self.slot, output.slot
        if mine.wanted:
            self.tape.note((its,), lambda: mine.receive(backward(its.take())))
        return output


def _is_everything(place: Any) -> bool:
    everything = (slice(None), slice(0, None))
    return isinstance(place, tuple) and all(isinstance(one, slice) and one in everything for one in place)


def _summed(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which an operand of this shape was repeated."""
    for axis, size in enumerate(shape):
        if size == 1 and gradient.shape[axis] > 1:
            gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient
