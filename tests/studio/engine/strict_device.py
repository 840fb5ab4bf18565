"""A device for tests that refuses whatever a GPU would: host arrays, too much memory, a wrong thread.

`tests/studio/engine/conftest.py` puts it in CuPy's place.
"""

from __future__ import annotations

import contextlib
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class DeviceArray:
    """An array on a device: mixes with Python numbers and its own kind only, never turns into NumPy's."""

    __array_ufunc__ = None

    def __init__(self, device: StrictDevice, array: np.ndarray[Any, Any]) -> None:
        self._device = device
        self._array = array
        device.account(array)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("iterating over a device array copies element by element")

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._array, name)
        self._device.used_methods.add(name)
        return self._device.guarded(attribute) if callable(attribute) else self._device.wrap(attribute)

    def __getitem__(self, key: Any) -> Any:
        return self._device.wrap(self._array[self._device.unwrap(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[self._device.unwrap(key)] = self._device.unwrap(value)

    def __neg__(self) -> DeviceArray:
        return DeviceArray(self._device, -self._array)

    def __bool__(self) -> bool:
        return bool(self._array)


def _operator(name: str) -> Callable[[DeviceArray, Any], Any]:
    def apply(self: DeviceArray, other: Any) -> Any:
        return self._device.wrap(getattr(self._array, name)(self._device.unwrap(other)))

    return apply


def _in_place(name: str) -> Callable[[DeviceArray, Any], DeviceArray]:
    def apply(self: DeviceArray, other: Any) -> DeviceArray:
        getattr(self._array, name)(self._device.unwrap(other))
        return self

    return apply


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "matmul", "gt"):
    setattr(DeviceArray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("and", "or", "xor", "lshift", "rshift"):
    setattr(DeviceArray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("iadd", "isub", "imul", "itruediv"):
    setattr(DeviceArray, f"__{_name}__", _in_place(f"__{_name}__"))


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""


class Pool:
    """A `cupy.cuda.MemoryPool` that counts what lives, and refuses what would pass its limit."""

    def __init__(self, device: StrictDevice) -> None:
        self._device = device
        self._owner = threading.get_ident()
        self.used = self.held = self.limit = 0
        device.pools.append(self)

    def malloc(self, array: np.ndarray[Any, Any]) -> None:
        assert threading.get_ident() == self._owner, "two threads use one pool"
        if self.limit and self.used + array.nbytes > self.limit:
            raise OutOfMemoryError(f"{self.used + array.nbytes} bytes of {self.limit}")
        self.used += array.nbytes
        self.held = max(self.held, self.used)
        weakref.finalize(array, self._release, array.nbytes).atexit = False

    def _release(self, count: int) -> None:
        self.used -= count

    def free_all_blocks(self) -> None:
        self._device.freed += 1
        self.held = self.used

    def set_limit(self, size: int) -> None:
        self.limit = size

    def get_limit(self) -> int:
        return self.limit

    def total_bytes(self) -> int:
        return self.held

    def used_bytes(self) -> int:
        return self.used


class StrictDevice(types.ModuleType):
    """A module with CuPy's face over NumPy: records what is used, refuses host arrays, fails on request.

    Whatever makes an array outside a stream and a pool of its own is refused too.
    """

    def __init__(self) -> None:
        super().__init__("cupy")
        self.used_functions: dict[str, set[tuple[int, tuple[str, ...]]]] = {}
        self.used_methods: set[str] = set()
        self.available = True
        self.total = 1 << 30
        self.freed = 0
        self.failures: list[BaseException] = []
        self.pools: list[Pool] = []
        self._accounted: set[int] = set()
        self._current = threading.local()
        runtime = types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=lambda: 2,
            getDeviceProperties=lambda number: {"name": b"Strict Device" if number == 0 else b"Other Device"},
            memGetInfo=lambda: (self.total - sum(pool.held for pool in self.pools), self.total),
        )
        self.cuda = types.SimpleNamespace(
            runtime=runtime,
            driver=types.SimpleNamespace(CUDADriverError=type("CUDADriverError", (RuntimeError,), {})),
            cublas=types.SimpleNamespace(CUBLASError=type("CUBLASError", (RuntimeError,), {})),
            compiler=types.SimpleNamespace(CompileException=type("CompileException", (Exception,), {})),
            memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            is_available=lambda: self.available,
            Device=lambda number: self._entered("device", number),
            Stream=lambda non_blocking: self._entered("stream", object(), synchronize=lambda: None),
            MemoryPool=lambda: Pool(self),
            using_allocator=lambda malloc: self._entered("malloc", malloc),
        )

    def _entered(self, name: str, value: Any, **methods: Callable[[], None]) -> Any:
        """Return what makes the value current on a thread while it is entered, any number of times."""
        current = self._current

        class Entered(contextlib.ContextDecorator):
            def __enter__(self) -> None:
                self.__dict__.setdefault("before", []).append(getattr(current, name, None))
                setattr(current, name, value)

            def __exit__(self, *_: object) -> None:
                setattr(current, name, self.__dict__["before"].pop())

        entered = Entered()
        vars(entered).update(methods)
        return entered

    def account(self, array: np.ndarray[Any, Any]) -> None:
        """Count the memory behind an array, once."""
        while isinstance(array.base, np.ndarray):
            array = array.base
        if id(array) in self._accounted:
            return
        current = self._current
        assert getattr(current, "stream", None) is not None, "work on the default stream"
        current.malloc(array)
        self._accounted.add(id(array))
        weakref.finalize(array, self._accounted.discard, id(array)).atexit = False

    def asarray(self, array: np.ndarray[Any, Any]) -> DeviceArray:
        if self.failures:
            raise self.failures.pop(0)
        assert isinstance(array, np.ndarray)
        return DeviceArray(self, array.copy())

    def asnumpy(self, array: DeviceArray) -> np.ndarray[Any, Any]:
        assert isinstance(array, DeviceArray)
        return array._array.copy()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(np, name)
        calls = self.used_functions.setdefault(name, set())
        if isinstance(attribute, type):
            return attribute  # a dtype

        def call(*arguments: Any, **keywords: Any) -> Any:
            calls.add((len(arguments), tuple(sorted(keywords))))
            return self.guarded(attribute)(*arguments, **keywords)

        return call

    def guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            plain = {key: self.unwrap(value) for key, value in keywords.items()}
            return self.wrap(function(*(self.unwrap(argument) for argument in arguments), **plain))

        return call

    def wrap(self, value: Any) -> Any:
        return DeviceArray(self, np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value

    def unwrap(self, value: Any) -> Any:
        if isinstance(value, DeviceArray):
            return value._array
        if isinstance(value, np.ndarray):
            raise TypeError("a host array meets the device")
        if isinstance(value, tuple | list):
            return type(value)(self.unwrap(item) for item in value)
        return value
