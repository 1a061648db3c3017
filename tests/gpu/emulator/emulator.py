"""CUDA kernels on the CPU: their own source, compiled by g++, one fiber for each CUDA thread.

What is checked beyond the numbers: the count, kind and width of arguments; the sizes of blocks, grids and shared
memory; that all threads of a block come to the same `__syncthreads`, and those of a warp to the same shuffle; writes
behind shared memory. Shared memory begins as NaN, in reverse order as 0. `check_races` runs something under several
orders of blocks, warps and lanes and compares the bits.

What a GPU does and this does not: threads never run at the same time, so a missing `__threadfence`, and races between
blocks that no order of whole blocks shows, stay unseen; early returns before a barrier, which newer GPUs allow, are
refused; mathematical functions are the CPU's (1 or 2 units in the last place apart), products and sums are fused only
where the CPU can, and denormal numbers are kept; there is no inline PTX, no tensor core, no cooperative group. Speed
here says nothing about speed there.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .compiled import load

DEFAULT_DYNAMIC_BYTES = 48 * 1024       # a kernel that wants more has to say so before its launch
MOST_PARAMETERS = 64


class LaunchError(RuntimeError):
    """A launch that a GPU would refuse, hang in, or silently do wrong."""


@dataclass(frozen=True)
class Order:
    """An order of blocks, warps and lanes: "forward", "reverse", or "shuffled" by a seed."""

    name: str
    seed: int = 0

    @property
    def number(self) -> int:
        return ("forward", "reverse", "shuffled").index(self.name)


FORWARD, REVERSE = Order("forward"), Order("reverse")
_order = FORWARD


@contextmanager
def thread_order(order: Order) -> Iterator[None]:
    """Launch in this order inside the with block."""
    global _order
    before, _order = _order, order
    try:
        yield
    finally:
        _order = before


def check_races(run: Callable[[], Iterable[Any]], seeds: Sequence[int] = (1, 2, 3)) -> list[np.ndarray]:
    """What `run` gives, once it is seen to give the same bits under every order of threads.

    `run` begins from the same state each time and gives arrays, NumPy's or any with a `get` method.
    """
    expected: list[np.ndarray] | None = None
    for order in (FORWARD, REVERSE, *(Order("shuffled", seed) for seed in seeds)):
        with thread_order(order):
            got = [np.array(array.get() if hasattr(array, "get") else array) for array in run()]
        if expected is None:
            expected = got
        for k, (one, other) in enumerate(zip(expected, got, strict=True)):
            if one.tobytes() != other.tobytes():
                raise AssertionError(f"data race: result {k} is another in {order.name} order (seed {order.seed})")
    assert expected is not None
    return expected


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: a pointer, floating-point number, integer or structure, and its bytes."""

    kind: str
    size: int

    def __str__(self) -> str:
        name = {"p": "a pointer", "f": "a floating-point number", "i": "an integer", "s": "a structure"}[self.kind]
        return f"{name} of {self.size} bytes"


class CompiledKernel:
    """One kernel of a CUDA source, ready to run on the CPU."""

    def __init__(self, source: str, name: str, options: tuple[str, ...] = ()) -> None:
        self.name = name
        self._library = load(source, name, options)
        kinds, sizes = ctypes.create_string_buffer(MOST_PARAMETERS), (ctypes.c_int * MOST_PARAMETERS)()
        n = self._library.on_cpu_describe(kinds, sizes)
        self.parameters = [Parameter(chr(kinds.raw[k]), sizes[k]) for k in range(n)]

    def launch(self, grid: Sequence[int], block: Sequence[int], arguments: Sequence[tuple[str, bytes]],
               shared_bytes: int = 0, most_shared_bytes: int = DEFAULT_DYNAMIC_BYTES) -> None:
        """Run all threads to their end.

        Parameters
        ----------
        grid, block : sequence of one to three int
            How many blocks, and threads in each.
        arguments : sequence of (kind, content)
            One a parameter; kinds as in `Parameter`. `packed` makes them of Python's and NumPy's numbers.
        shared_bytes, most_shared_bytes : int
            Dynamic shared memory of a block, and how much the kernel is allowed to have.
        """
        self._check(arguments)
        if shared_bytes > most_shared_bytes:
            raise LaunchError(f"{self.name}: too much shared memory: {shared_bytes} dynamic bytes without "
                              "max_dynamic_shared_size_bytes set that high")
        contents = [ctypes.create_string_buffer(content, len(content)) for _, content in arguments]
        addresses = (ctypes.c_void_p * max(1, len(contents)))(*(ctypes.addressof(content) for content in contents))
        failed = self._library.on_cpu_launch(
            addresses, _three(grid), _three(block), ctypes.c_size_t(shared_bytes), _order.number,
            ctypes.c_uint(_order.seed))
        if failed:
            raise LaunchError(f"{self.name}: {self._library.on_cpu_error().decode()}")

    def _check(self, arguments: Sequence[tuple[str, bytes]]) -> None:
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments, {len(arguments)} were given")
        for k, ((kind, content), parameter) in enumerate(zip(arguments, self.parameters, strict=True)):
            given = Parameter(kind, len(content))
            is_null = given.kind == "i" and content == bytes(8) and parameter.kind == "p"
            if given != parameter and not is_null:
                raise TypeError(f"{self.name}: argument {k} is {given}, the kernel reads {parameter}")


def packed(value: Any) -> tuple[str, bytes]:
    """A launch argument as CuPy hands it to a kernel: Python's numbers are 8 bytes wide, NumPy's as wide as they are.

    Arrays of NumPy become pointers to their data. The null pointer is a 0 of 8 bytes; CuPy makes 0xffffffff of None.
    """
    if value is None:
        raise TypeError("None is not the null pointer for CuPy: pass numpy.uint64(0)")
    if isinstance(value, np.ndarray):
        return "p", np.uint64(value.ctypes.data).tobytes()
    if isinstance(value, bool):
        value = np.bool_(value)
    elif isinstance(value, int):
        value = np.int64(value)
    elif isinstance(value, float):
        value = np.float64(value)
    if not isinstance(value, np.generic):
        raise TypeError(f"Unsupported type {type(value)}")
    return {"f": "f", "i": "i", "u": "i", "b": "i"}.get(value.dtype.kind, "s"), value.tobytes()


def _three(sizes: Sequence[int]) -> Any:
    """A grid or block size with all three numbers."""
    if not 1 <= len(sizes) <= 3 or any(size != math.floor(size) or size < 0 for size in sizes):
        raise ValueError(f"{tuple(sizes)} is not the size of a grid or block: one to three integers")
    return (ctypes.c_uint * 3)(*(int(size) for size in sizes), *(1 for _ in range(3 - len(sizes))))
