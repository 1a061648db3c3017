"""The CPU's fast maker of the kernel contract: operations in C, run by a few threads, singly or as a recorded list.

What each computes, and the shapes, stand in `reference`; the sources are in `c/`, and `c_calls` calls them. No BLAS
takes part, so there are no other threads to wait for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.kernels import masks
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.kernels.c_calls import Calls, Operation

Array = Any
Blocks = Any

DEEP, SMALL, PARTS = 768, 1 << 15, 4     # when and into how many parts a product is split along its depth
KINDS = {kind: number for number, kind in enumerate(ACTIVATIONS)}       # as in c/activations.h


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
        calls = Calls(threads)
        self.record, self._do, self._do_all = calls.record, calls.do, calls.do_all
        self._parts: dict[str, Array] = {}

    # ------------------------------------------------------------------------------------------------ the batch

    def gather(self, data: Array, labels: Array, classes: Array, rows: Array, mean: Array | None,
               inv_std: Array | None, x: Array, targets: Array) -> None:
        self._do("gather" + _kind(data, x), x, data, labels, rows, mean, inv_std, x, targets, *x.shape,
                 classes.shape[0])

    def gather_moved(self, data: Array, labels: Array, classes: Array, rows: Array, moves: Array, mean: Array | None,
                     inv_std: Array | None, x: Array, targets: Array, *, image_shape: tuple[int, int, int]) -> None:
        self._do("gather_moved" + _kind(data, x), x, data, labels, rows, moves[0], moves[1], moves[2], mean, inv_std, x,
                 targets, *x.shape, classes.shape[0], *image_shape[1:], data.shape[0])

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
        self._do_all([
            Operation("matmul", c.dtype, (parts, c.size, columns, a, some * a_k, a_row, a_k, b, some * b_k, b_k,
                                          b_column, PARTS, n, some, columns)),
            Operation("add_parts", c.dtype, (parts, c[0], PARTS, c.size)),
        ])

    def _scratch(self, like: Array, times: int = 1) -> Array:
        """A flat array for what one operation leaves for the next, as large as so many of this one."""
        key, size = like.dtype.name, like.size * times
        scratch = self._parts.get(key)
        if scratch is None or scratch.size < size:
            scratch = self._parts[key] = np.empty(size, like.dtype)
        return scratch

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

    def dropout(self, x: Array, keys: Array, y: Array, *, rate: float) -> None:
        self._do("dropout", x, *_block(x), keys, *_block(y), *x.shape, masks.threshold(rate), 1.0 / (1.0 - rate))

    def linear_backward(self, gy: Array, x: Array, w: Array, gw: Array, gb: Array | None, gx: Array | None) -> None:
        if gb is not None:
            self._do("column_sums", gy, *_block(gy), gb, *gy.shape)
        if gx is not None:
            self._matmul(gy, w.swapaxes(-1, -2), gx)
        self._matmul(x.swapaxes(-1, -2), gy, gw)        # last, so that a recording can join it with the update

    def moving_average(self, new: Array, decay: float, running: Array) -> None:
        self._do("moving_average", running, new, running, running.shape[0], float(decay), 1.0 - decay)

    # ------------------------------------------------------------------------------------------------ loss

    def cross_entropy(self, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array,
                      *, smoothing: float = 0.0) -> None:
        self._loss("cross_entropy", logits, targets, weights, loss, glogits, 1.0 - smoothing,
                   smoothing / logits.shape[2])

    def hinge(self, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array) -> None:
        self._loss("hinge", logits, targets, weights, loss, glogits)

    def _loss(self, name: str, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array,
              *numbers: float) -> None:
        parts = self._scratch(logits[:, :, 0])
        self._do_all([
            Operation(name, logits.dtype, (*_block(logits), *_block(glogits), targets, weights, parts, *logits.shape,
                                           *numbers)),
            Operation("sum_parts", logits.dtype, (parts, loss, *logits.shape[:2])),
        ])

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


def _kind(data: Array, x: Array) -> str:
    """The end of the name of a kernel that reads such data into x."""
    if data.dtype not in (np.uint8, x.dtype):
        raise TypeError(f"data of {data.dtype} cannot be gathered into {x.dtype}: keep bytes or {x.dtype}")
    return "_bytes" if data.dtype == np.uint8 else "_numbers"


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
