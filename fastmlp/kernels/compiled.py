"""The CPU's fast maker of the kernel contract: operations in C, run by a few threads, singly or as a recorded list.

What each computes, and the shapes, stand in `reference`. The sources are in `c/`. No BLAS takes part, so there are no
other threads to wait for. Operations that are recorded are written down instead of run; the list is run later by one
call, without a return to Python between two operations.
"""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastmlp.cpu import usable_cores
from fastmlp.kernels import c_library
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.kernels.thread_choice import ThreadChoice

Array = Any
Blocks = Any

USUAL_THREADS = 4       # of operations that are not recorded, where nobody said how many
DEEP, SMALL, PARTS = 768, 1 << 15, 4     # when and into how many parts a product is split along its depth
LONGEST_JOINED = 112    # K_BLOCK of c/matmul.c
KINDS = {kind: number for number, kind in enumerate(ACTIVATIONS)}       # as in c/activations.h


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


class CompiledKernels:
    """The operations of the contract as methods.

    Parameters
    ----------
    threads : int, optional
        How many run an operation; results do not depend on it. By default the recorded operations find out.

    Raises
    ------
    DeviceError
        There is no C compiler, or it failed.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._fixed_threads, self._most_threads = threads, threads or usable_cores()
        self._usual_threads = threads or min(self._most_threads, USUAL_THREADS)
        self._libraries: dict[str, _Library] = {"float32": _Library("float32")}
        self._parts: dict[str, Array] = {}
        self._recorded: list[Operation] | None = None

    # ------------------------------------------------------------------------------------------- running and recording

    def _library(self, dtype: np.dtype[Any]) -> _Library:
        key = dtype.name
        if key not in self._libraries:
            self._libraries[key] = _Library(key)
        return self._libraries[key]

    def _do(self, name: str, like: Array, *arguments: Any) -> None:
        """Run an operation in the dtype of `like`, or write it down; arguments are arrays, None, numbers."""
        packed = _pack(arguments, like.dtype)
        if self._recorded is not None:
            self._recorded.append(Operation(name, like.dtype, arguments))
            return
        library = self._library(like.dtype)
        call = _Call(library.address(name), _address(packed))
        library.run_calls(ctypes.addressof(call), 1, self._usual_threads)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A function that does what `work` does, on the same memory, in one call; nothing of it is done now.

        All operations must be of one dtype.
        """
        self._recorded = []
        try:
            work()
            operations = joined(self._recorded)
        finally:
            self._recorded = None
        library = self._library(operations[0].dtype)
        packed = [_pack(operation.arguments, operation.dtype) for operation in operations]
        calls = (_Call * len(operations))(*(
            _Call(library.address(operation.name), _address(words))
            for operation, words in zip(operations, packed, strict=True)))
        choice = ThreadChoice(self._most_threads, self._fixed_threads)

        def replay(alive: Any = (operations, packed)) -> None:      # the arrays and arguments that the calls point to
            threads, began = choice.propose(), time.perf_counter()
            library.run_calls(ctypes.addressof(calls), len(alive[0]), threads)
            choice.took(threads, time.perf_counter() - began)

        return replay

    # ------------------------------------------------------------------------------------------------ the batch

    def gather(self, data: Array, labels: Array, classes: Array, rows: Array, mean: Array | None,
               inv_std: Array | None, x: Array, targets: Array) -> None:
        if data.dtype not in (np.uint8, x.dtype):
            raise TypeError(f"data of {data.dtype} cannot be gathered into {x.dtype}: keep bytes or {x.dtype}")
        kernel = "gather_bytes" if data.dtype == np.uint8 else "gather_numbers"
        self._do(kernel, x, data, labels, rows, mean, inv_std, x, targets, *x.shape, classes.shape[0])

    def batch_weights(self, sample_weight: Array, rows: Array, weights: Array) -> None:
        self._do("batch_weights", weights, sample_weight, rows, weights, rows.shape[0])

    # ------------------------------------------------------------------------------------------------ layers

    def _matmul(self, a: Array, b: Array, c: Array) -> None:
        """The product a b, whose last axis is contiguous.  a (M, N, K), b (M, K, H)  ->  c (M, N, H).

        One that is deep and small is made in PARTS, as if by members that share the depth. So each thread has its part
        of the weights, which it has just updated, in its cache.
        """
        (members, n, depth), columns = a.shape, b.shape[2]
        splits = members == 1 and depth >= DEEP and depth % PARTS == 0 and c.size <= SMALL and c.flags.c_contiguous
        if not splits:
            self._do("matmul", c, *_block(c), a, *_strides(a), b, *_strides(b), *a.shape, columns)
            return
        (_, a_row, a_k), (_, b_k, b_column) = _strides(a), _strides(b)
        parts, some = self._scratch(c, PARTS), depth // PARTS
        self._do("matmul", c, parts, c.size, columns, a, some * a_k, a_row, a_k, b, some * b_k, b_k, b_column, PARTS, n,
                 some, columns)
        self._do("add_parts", c, parts, c[0], PARTS, c.size)

    def _scratch(self, like: Array, times: int = 1) -> Array:
        """A flat array for what one operation leaves for the next, as large as so many of this one."""
        key, size = like.dtype.name, like.size * times
        if key not in self._parts or self._parts[key].size < size:
            self._parts[key] = np.empty(size, like.dtype)
        return self._parts[key]

    def linear(self, x: Array, w: Array, b: Array | None, y: Array) -> None:
        self._matmul(x, w, y)
        if b is not None:
            self._do("bias_activation", y, *_block(y), b, *_block(y), *NOTHING, *y.shape, 0)

    def linear_activation(self, x: Array, w: Array, b: Array, s: Array, y: Array, *, kind: str) -> None:
        self._matmul(x, w, s)
        self._do("bias_activation", y, *_block(s), b, *_block(s), *_block(y), *y.shape, KINDS[kind])

    def activation(self, x: Array, y: Array, *, kind: str) -> None:
        self._do("bias_activation", y, *_block(x), None, *NOTHING, *_block(y), *y.shape, KINDS[kind])

    def activation_backward(self, gy: Array, x: Array, y: Array, gx: Array, *, kind: str) -> None:
        self._do("activation_backward", gy, *_block(gy), *_block(x), *_block(y), *_block(gx), *gy.shape, KINDS[kind])

    def batch_norm_activation(self, x: Array, weights: Array, gamma: Array, beta: Array, mean: Array, var: Array,
                              inv_std: Array, y: Array, *, kind: str, eps: float) -> None:
        self._do("batch_norm_activation", x, *_block(x), weights, gamma, beta, mean, var, inv_std, *_block(y), *x.shape,
                 KINDS[kind], float(eps))

    def batch_norm_activation_backward(self, gy: Array, x: Array, y: Array, weights: Array, gamma: Array, beta: Array,
                                       mean: Array, inv_std: Array, gx: Array, ggamma: Array, gbeta: Array,
                                       *, kind: str) -> None:
        self._do("batch_norm_activation_backward", x, *_block(gy), *_block(x), *_block(y), weights, gamma, beta, mean,
                 inv_std, *_block(gx), ggamma, gbeta, *x.shape, KINDS[kind])

    def linear_backward(self, gy: Array, x: Array, w: Array, gw: Array, gb: Array | None, gx: Array | None) -> None:
        self._matmul(x.swapaxes(-1, -2), gy, gw)
        if gb is not None:
            self._do("column_sums", gy, *_block(gy), gb, *gy.shape)
        if gx is not None:
            self._matmul(gy, w.swapaxes(-1, -2), gx)

    def moving_average(self, new: Array, decay: float, running: Array) -> None:
        self._do("moving_average", running, new, running, running.shape[0], float(decay), 1.0 - decay)

    # ------------------------------------------------------------------------------------------------ loss

    def cross_entropy(self, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array) -> None:
        self._loss("cross_entropy", logits, targets, weights, loss, glogits)

    def hinge(self, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array) -> None:
        self._loss("hinge", logits, targets, weights, loss, glogits)

    def _loss(self, name: str, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array) -> None:
        parts = self._scratch(logits[:, :, 0])
        self._do(name, logits, *_block(logits), *_block(glogits), targets, weights, parts, *logits.shape)
        self._do("sum_parts", loss, parts, loss, *logits.shape[:2])

    def count_correct(self, logits: Array, labels: Array, counts: Array, correct: Array) -> None:
        self._do("count_correct", logits, *_block(logits), labels, counts, correct, *logits.shape)

    # ------------------------------------------------------------------------------------------------ update

    def sgd(self, gradients: Array, lr: Array, l2: Array, velocity: Array | None, parameters: Array,
            *, blocks: Blocks, momentum: float, nesterov: bool) -> None:
        for block in blocks:
            p, g, common = _stretch(block, parameters), _stretch(block, gradients), _shape(block, lr.shape[0])
            if velocity is None:
                self._do("sgd", p, g, lr, l2, p, *common)
            else:
                self._do("sgd_momentum", p, g, lr, l2, p, *common, _stretch(block, velocity), float(momentum),
                         int(nesterov))

    def adam(self, gradients: Array, lr: Array, l2: Array, corrections: Array, first: Array, second: Array,
             parameters: Array, *, blocks: Blocks, beta1: float, beta2: float, eps: float, decoupled: bool) -> None:
        for block in blocks:
            p, g, m, v = (_stretch(block, buffer) for buffer in (parameters, gradients, first, second))
            self._do("adam", p, g, lr, l2, p, *_shape(block, lr.shape[0]), m, v, corrections, float(beta1),
                     1.0 - beta1, float(beta2), 1.0 - beta2, float(eps), int(decoupled))


NOTHING = (None, 0, 0)
OTHER_TYPES = (np.dtype(np.uint8), np.dtype(np.int64))      # of data, labels and row numbers


def _pack(arguments: tuple[Any, ...], dtype: np.dtype[Any]) -> bytes:
    """The arguments of an operation as 64-bit words."""
    words = [_word(value, dtype) for value in arguments]
    return struct.pack("".join("d" if type(word) is float else "q" for word in words), *words)


def _address(packed: bytes) -> int | None:
    return ctypes.cast(ctypes.c_char_p(packed), ctypes.c_void_p).value


def _word(value: Any, dtype: np.dtype[Any]) -> Any:
    """An argument as a number: an array by its address, None as the null pointer."""
    if not isinstance(value, np.ndarray):
        return 0 if value is None else value
    if value.dtype != dtype and value.dtype not in OTHER_TYPES:
        raise TypeError(f"an array of {value.dtype} cannot be an argument of an operation on {dtype}")
    if value.ndim < 3 and not value.flags.c_contiguous:         # strides of three axes are arguments, too
        raise TypeError(f"an array of shape {value.shape} and strides {value.strides} is not contiguous")
    return value.__array_interface__["data"][0]


def _strides(array: Array) -> tuple[int, ...]:
    """Strides of an array in elements."""
    return tuple(stride // array.itemsize for stride in array.strides)


def _block(array: Array) -> tuple[Any, int, int]:
    """An array (M, N, H) as c/common.h knows it; its last axis is contiguous."""
    member, row, column = _strides(array)
    if column != 1 and array.shape[2] > 1:
        raise TypeError(f"an array of strides {array.strides} does not have its last axis contiguous")
    return array, member, row


def _stretch(block: Any, buffer: Array) -> Array:
    """What of a flat buffer a block stands for."""
    return buffer[block.start:block.stop]


def _shape(block: Any, members: int) -> tuple[int, int, int, float]:
    """A block as (outer, members, inner), and 2 where it is penalised: d/dw of l2 w^2 is 2 l2 w."""
    size = block.stop - block.start
    inner = block.columns_per_member or size // members
    return size // (members * inner), members, inner, 2.0 if block.is_weight else 0.0
