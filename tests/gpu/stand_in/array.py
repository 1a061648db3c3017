"""The stand-in's array: NumPy's numbers in device memory, with CuPy's refusals.

Nothing turns into a NumPy array but by `get`; no operation takes a NumPy array; whatever needs the numbers on the host
is counted as a copy to it. Every operation is one kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from .device import device
from .memory import Memory


def content_of(value: Any) -> Any:
    """What NumPy shall compute with for an argument of an operation: an array's content, a number as it is."""
    if isinstance(value, ndarray):
        return value.content
    if value is None or isinstance(value, (bool, int, float, complex, np.generic)):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def new(shape: Any, dtype: Any) -> ndarray:
    """A new array full of NaN."""
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    dtype = np.dtype(dtype)
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = device.allocate(n_bytes, dtype.itemsize)
    return view_on(memory.bytes.view(dtype).reshape(shape), memory)


def view_on(content: np.ndarray, memory: Memory) -> ndarray:
    """An array over memory that is there already."""
    array = object.__new__(ndarray)
    array.content, array.memory = content, memory
    return array


def compute(function: Callable[..., Any], *arguments: Any, out: ndarray | None = None, **options: Any) -> ndarray:
    """One kernel: a NumPy function of contents, into `out` or a new array."""
    contents = [content_of(argument) for argument in arguments]
    return compute_from(function, contents, [a for a in arguments if isinstance(a, ndarray)], out, options)


def compute_from(function: Callable[..., Any], contents: list[Any], arrays: list[ndarray], out: ndarray | None,
                 options: dict[str, Any]) -> ndarray:
    """`compute` for arguments whose contents are taken out already; `arrays` are those they came from."""
    with np.errstate(all="ignore"):             # a device warns of nothing
        result = np.asarray(function(*contents, **options))
    if out is None:
        out = new(result.shape, result.dtype)
    elif not isinstance(out, ndarray):
        raise TypeError(f"Unsupported type {type(out)}: out must be a device array")
    elif out.shape != result.shape:
        raise ValueError(f"Out shape is mismatched: {out.shape} is not {result.shape}")
    target = out.content

    def work() -> None:
        with np.errstate(all="ignore"):
            np.copyto(target, function(*contents, **options) if replaying else result, casting="same_kind")

    replaying = device.capturing                # then the inputs will be others at each launch
    device.submit(getattr(function, "__name__", "kernel"), work, [a.memory for a in (*arrays, out)])
    return out


def view_or_copy(function: Callable[[np.ndarray], np.ndarray], array: ndarray) -> ndarray:
    """Another look at the same memory where the function gives one, such as a transpose; a kernel where it copies."""
    if not isinstance(array, ndarray):
        raise TypeError(f"Unsupported type {type(array)}")
    result = function(array.content)
    if np.may_share_memory(result, array.content) or result.size == 0:
        return view_on(result, array.memory)
    return compute(function, array)


def _binary(function: Callable[..., Any], *, swapped: bool = False, in_place: bool = False) -> Callable[..., ndarray]:
    """A method for an operator of two operands."""
    def operator(self: ndarray, other: Any) -> ndarray:
        first, second = (other, self) if swapped else (self, other)
        return compute(function, first, second, out=self if in_place else None)
    return operator


def _unary(function: Callable[..., Any]) -> Callable[[ndarray], ndarray]:
    return lambda self: compute(function, self)


class ndarray:  # noqa: N801 - CuPy's name
    """See the module."""

    content: np.ndarray
    memory: Memory
    __hash__ = None     # type: ignore[assignment]
    __array_priority__ = 100

    def __new__(cls, shape: Any, dtype: Any = float) -> ndarray:
        return new(shape, dtype)

    # ------------------------------------------------------------------------------- between host and device

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True) -> Any:
        device.refuse_in_capture("a copy to the host")
        device.counts.device_to_host += 1
        self.memory.check("get")
        if out is None:
            return self.content.copy()
        out[...] = self.content
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError(f"{arr.dtype} {arr.shape} cannot be set to {self.dtype} {self.shape}")
        device.refuse_in_capture("a copy to the device")
        device.counts.host_to_device += 1
        self.content[...] = arr

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __index__(self) -> int:
        return self.get().__index__()

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. "
                        "Please use `.get()` to construct a NumPy array explicitly.")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        # Comes from a NumPy scalar as the left operand; or from np.exp(array), which CuPy takes and fastmlp must not.
        if method != "__call__" or options or not any(isinstance(value, np.generic) for value in inputs):
            raise TypeError(f"numpy.{ufunc.__name__} was called on a device array: call the device library's function")
        return compute(ufunc, *inputs)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called on a device array: call the device library's function")

    # ------------------------------------------------------------------------------- description

    shape = property(lambda self: self.content.shape)
    dtype = property(lambda self: self.content.dtype)
    ndim = property(lambda self: self.content.ndim)
    size = property(lambda self: self.content.size)
    nbytes = property(lambda self: self.content.nbytes)
    itemsize = property(lambda self: self.content.itemsize)
    strides = property(lambda self: self.content.strides)
    flags = property(lambda self: self.content.flags)
    data = property(lambda self: SimpleNamespace(ptr=self.content.ctypes.data))

    def __len__(self) -> int:
        return len(self.content)

    def __repr__(self) -> str:
        return f"<stand-in array {self.shape} {self.dtype}>"

    # ------------------------------------------------------------------------------- parts

    def __getitem__(self, index: Any) -> ndarray:
        index, arrays = _device_index(index)
        if not arrays:
            return view_on(self.content[(*index, ...)] if ... not in index else self.content[index], self.memory)
        return compute_from(lambda content, *places: content[_with_places(index, places)],
                            [self.content, *(a.content for a in arrays)], [self, *arrays], None, {})

    def __setitem__(self, index: Any, value: Any) -> None:
        index, arrays = _device_index(index)
        source, target = content_of(value), self.content
        places = [array.content for array in arrays]

        def work() -> None:
            with np.errstate(all="ignore"):
                target[_with_places(index, places)] = source

        if not device.capturing or not arrays:
            np.broadcast_to(source, target[_with_places(index, places)].shape)      # refuse a wrong shape at once
        device.submit("setitem", work, [a.memory for a in (self, *arrays, value) if isinstance(a, ndarray)])

    def __iter__(self) -> Iterator[ndarray]:
        return (self[k] for k in range(len(self)))

    # ------------------------------------------------------------------------------- operators

    __add__, __radd__, __iadd__ = _binary(np.add), _binary(np.add, swapped=True), _binary(np.add, in_place=True)
    __sub__, __rsub__ = _binary(np.subtract), _binary(np.subtract, swapped=True)
    __isub__ = _binary(np.subtract, in_place=True)
    __mul__, __rmul__ = _binary(np.multiply), _binary(np.multiply, swapped=True)
    __imul__ = _binary(np.multiply, in_place=True)
    __truediv__, __rtruediv__ = _binary(np.true_divide), _binary(np.true_divide, swapped=True)
    __itruediv__ = _binary(np.true_divide, in_place=True)
    __floordiv__, __mod__ = _binary(np.floor_divide), _binary(np.remainder)
    __pow__, __rpow__ = _binary(np.power), _binary(np.power, swapped=True)
    __and__, __or__, __xor__ = _binary(np.bitwise_and), _binary(np.bitwise_or), _binary(np.bitwise_xor)
    __eq__, __ne__ = _binary(np.equal), _binary(np.not_equal)       # type: ignore[assignment]
    __lt__, __le__, __gt__, __ge__ = (_binary(np.less), _binary(np.less_equal), _binary(np.greater),
                                      _binary(np.greater_equal))
    __neg__, __abs__, __invert__ = _unary(np.negative), _unary(np.absolute), _unary(np.invert)


def _device_index(index: Any) -> tuple[tuple[Any, ...], list[ndarray]]:
    """An index as a tuple, its arrays taken out: what stands in their places is the class."""
    parts = index if isinstance(index, tuple) else (index,)
    kept, arrays = [], []
    for part in parts:
        if isinstance(part, ndarray):
            if part.dtype == bool:
                device.wait("indexing by a mask")       # its result's size is known only to the device
            arrays.append(part)
            kept.append(ndarray)
        elif part is None or part is Ellipsis or isinstance(part, (int, slice, np.integer)):
            kept.append(part)
        else:
            raise TypeError(f"Unsupported type {type(part)}: an index on the host would be copied to the device")
    return tuple(kept), arrays


def _with_places(index: tuple[Any, ...], places: Any) -> tuple[Any, ...]:
    """The index with the arrays' contents back in their places."""
    remaining = iter(places)
    return tuple(next(remaining) if part is ndarray else part for part in index)
