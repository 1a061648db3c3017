"""Operations in C, run singly or written down and run as one list: how Python calls them.

Operations that are recorded are written down instead of run; the list is run later by one call, without a return to
Python between two operations, and some that follow one another are joined.
"""

from __future__ import annotations

import ctypes
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastmlp.cpu import most_threads
from fastmlp.kernels import c_library
from fastmlp.kernels.thread_choice import ThreadChoice

Array = Any

USUAL_THREADS = 4       # of operations that are not recorded, where nobody said how many
LONGEST_JOINED = 112    # K_BLOCK of c/matmul.c
OTHER_TYPES = (np.dtype(np.uint8), np.dtype(np.int64), np.dtype(np.uint32))    # of data, labels and rows, keys


class Operation(NamedTuple):
    """An operation that was written down."""

    name: str
    dtype: np.dtype[Any]
    arguments: tuple[Any, ...]


def joined(operations: list[Operation]) -> list[Operation]:
    """The same with each first layer's gradient and its descent in one, where they follow each other.

    `sgd` destroys the gradients, so nobody can want to read them afterwards.
    """
    result: list[Operation] = []
    for operation in operations:
        before = result[-1] if result else operation
        if operation.name != "sgd" or before.name != "matmul":
            result.append(operation)
            continue
        gw, _, row, *factors = before.arguments
        g, lr, l2, p, outer, members, _, twice = operation.arguments
        n_members, rows, depth, columns = factors[-4:]
        same = gw.ctypes.data == g.ctypes.data and row == columns and columns % members == 0
        if not same or n_members != 1 or depth > LONGEST_JOINED or (members > 1 and outer != rows):
            result.append(operation)
            continue
        size = rows * columns
        result[-1] = Operation("matmul_sgd", operation.dtype,
                               (p[:size], 0, row, *factors, lr, l2, columns // members, twice))
        if size < p.size:       # the other layers of a single network
            rest = (g[size:], lr, l2, p[size:], 1, 1, p.size - size, twice)
            result.append(Operation("sgd", operation.dtype, rest))
    return result


class _Call(ctypes.Structure):
    """An operation and its arguments, as c/pool.c knows them."""

    _fields_ = (("run", ctypes.c_void_p), ("arguments", ctypes.c_void_p))


class _Library:
    """The compiled operations for one dtype."""

    def __init__(self, dtype: str) -> None:
        library = c_library.load(dtype)
        self._library = library
        self._functions: dict[str, int] = {}
        self.run_calls = library.run_calls
        self.run_calls.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        self.run_calls.restype = None

    def address(self, name: str) -> int:
        """Where an operation begins."""
        if name not in self._functions:
            self._functions[name] = int(ctypes.cast(getattr(self._library, name), ctypes.c_void_p).value or 0)
        return self._functions[name]


class Calls:
    """Runs operations, or writes them down.

    Parameters
    ----------
    threads : int, optional
        How many run an operation; by default the recorded ones find out.

    Raises
    ------
    DeviceError
        There is no C compiler, or it failed.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._fixed_threads, self._most_threads = threads, threads or most_threads()
        self._usual_threads = threads or min(self._most_threads, USUAL_THREADS)
        self._libraries: dict[str, _Library] = {"float32": _Library("float32")}
        self._recording = threading.local()     # `operations`, while this thread of the program records

    def _library(self, dtype: np.dtype[Any]) -> _Library:
        key = dtype.name
        if key not in self._libraries:
            self._libraries[key] = _Library(key)
        return self._libraries[key]

    def do(self, name: str, like: Array, *arguments: Any) -> None:
        """Run an operation in the dtype of `like`, or write it down; arguments are arrays, None, numbers."""
        self.do_all([Operation(name, like.dtype, arguments)])

    def do_all(self, operations: list[Operation]) -> None:
        """Likewise several, in one go: no other thread of the program can come between them."""
        recorded = getattr(self._recording, "operations", None)
        if recorded is None:
            self._prepared(operations)(self._usual_threads)
        else:
            recorded += operations

    def _prepared(self, operations: list[Operation]) -> Callable[[int], None]:
        """A function that runs the operations, all of one dtype, on so many threads."""
        library = self._library(operations[0].dtype)
        packed = [_pack(operation.arguments, operation.dtype) for operation in operations]
        calls = (_Call * len(operations))(*(
            _Call(library.address(operation.name), ctypes.cast(ctypes.c_char_p(words), ctypes.c_void_p))
            for operation, words in zip(operations, packed, strict=True)))
        alive = (operations, packed)        # the arrays and arguments that the calls point to

        def run(threads: int) -> None:
            library.run_calls(ctypes.addressof(calls), len(alive[0]), threads)

        return run

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A function that does what `work` does, on the same memory, in one call; nothing of it is done now.

        All operations must be of one dtype.
        """
        self._recording.operations = []
        try:
            work()
            run = self._prepared(joined(self._recording.operations))
        finally:
            self._recording.operations = None
        choice = ThreadChoice(self._most_threads, self._fixed_threads)

        def replay() -> None:
            threads, began = choice.propose(), time.perf_counter()
            run(threads)
            choice.took(threads, time.perf_counter() - began)

        return replay


def _pack(arguments: tuple[Any, ...], dtype: np.dtype[Any]) -> bytes:
    """The arguments of an operation as 64-bit words."""
    words = [_word(value, dtype) for value in arguments]
    return struct.pack("".join("d" if type(word) is float else "q" for word in words), *words)


def _word(value: Any, dtype: np.dtype[Any]) -> Any:
    """An argument as a number: an array by its address, None as the null pointer."""
    if not isinstance(value, np.ndarray):
        return 0 if value is None else value
    if value.dtype != dtype and value.dtype not in OTHER_TYPES:
        raise TypeError(f"an array of {value.dtype} cannot be an argument of an operation on {dtype}")
    if value.ndim < 3 and not value.flags.c_contiguous:         # strides of three axes are arguments, too
        raise TypeError(f"an array of shape {value.shape} and strides {value.strides} is not contiguous")
    return value.__array_interface__["data"][0]
