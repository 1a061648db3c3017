"""CuPy's maker of the kernel contract: few launches a step, and all of them fit to be recorded.

What each operation does, and the shapes, stand in `reference` (of the joined ones in `chains`). On a GPU a small
network's step is limited by launches, so every operation here is one launch of a kernel in `cuda/*.cu`, and chains are
one where their products are small. Large products are cuBLAS's. `FusedKernels` is given CuPy and imports it nowhere: it
can be checked without a GPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmlp.errors import DeviceError
from fastmlp.kernels import chains, masks
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.kernels.cublas import Cublas
from fastmlp.kernels.cuda_modules import CudaModules

Array = Any
Blocks = Any

TILE, TILE_THREADS = 32, 256                    # as in cuda/tiles.cuh
MOST_GROUPS = {"float32": 4, "float64": 2}
ROW_THREADS = {"float32": 1024, "float64": 512}         # a block of losses.cu, as there
THREADS, MOST_THREADS = 256, 1024                       # a block of whatever has a thread an element; the largest
ACTIVATION_NUMBERS = {kind: number for number, kind in enumerate(ACTIVATIONS)}     # as in cuda/activations.cuh

MOST_PARAMETERS = 2**32 - THREADS               # of cuda/update.cu, which counts them in 32 bits

# Where our kernels stop and cuBLAS takes over; estimates that wait for a GPU (see docs/gpu.md).
SMALL_PRODUCT = 1 << 25         # multiplications of a product
MOST_ROWS = 1024                # of a batch whose examples one block adds up, tile after tile
COLUMN_WORK = 1 << 15           # multiplications for one column of a block that has all of it
SPLIT_BLOCKS = 192              # a product with fewer tiles is split along its contraction ...
SHORTEST_SPLIT = 4              # ... into parts of at least so many tiles


def tiles(n: int) -> int:
    """How many tiles cover n rows or columns."""
    return -(-n // TILE)


def place(array: Array) -> tuple[np.int64, np.int32]:
    """Strides of (M, N, H) between members and between rows, in elements; the last axis is contiguous."""
    item = array.dtype.itemsize
    return np.int64(array.strides[0] // item), np.int32(array.strides[1] // item)


class FusedKernels:
    """The operations of the contract as methods, for one CuPy.

    Parameters
    ----------
    xp : module
        `cupy`, or a stand-in. Nothing is compiled before an operation's first call.
    precision : {"float32", "tf32"}, default "float32"
        How cuBLAS multiplies float32 numbers.
    """

    def __init__(self, xp: Any, precision: str = "float32") -> None:
        self._xp = xp
        self._launch = CudaModules(xp).launch
        self._product = Cublas(xp, precision).product
        self._tables: dict[Any, Array] = {}
        self._split_scratch: dict[str, tuple[Array, Array]] = {}

    # ------------------------------------------------------------------------------------------------ the batch

    def gather(self, data: Array, labels: Array, classes: Array, rows: Array, mean: Array | None,
               inv_std: Array | None, x: Array, targets: Array) -> None:
        self._launch("gather" + _kind(data, x), x.dtype, (x.shape[0],), (THREADS,), data, labels, rows, mean, inv_std,
                     x, targets, np.int32(x.shape[1]), np.int32(classes.shape[0]))

    def gather_moved(self, data: Array, labels: Array, classes: Array, rows: Array, moves: Array, mean: Array | None,
                     inv_std: Array | None, x: Array, targets: Array, *, image_shape: tuple[int, int, int]) -> None:
        _, height, width = image_shape
        self._launch("gather_moved" + _kind(data, x), x.dtype, (x.shape[0],), (THREADS,), data, labels, rows, moves[0],
                     moves[1], moves[2], mean, inv_std, x, targets, np.int32(x.shape[1]), np.int32(classes.shape[0]),
                     np.int32(height), np.int32(width))

    def batch_weights(self, sample_weight: Array, rows: Array, weights: Array) -> None:
        self._launch("batch_weights", weights.dtype, (1,), (MOST_THREADS,), sample_weight, rows, weights,
                     np.int32(rows.shape[0]))

    # ------------------------------------------------------------------------------------------------ layers

    def linear(self, x: Array, w: Array, b: Array | None, y: Array) -> None:
        if _is_small(x, w):
            self._small_linear(x, w, b, y, None, 0)
            return
        self._product(x, w, y)
        if b is not None:
            (_, n, h), size = y.shape, y.size
            self._elementwise("add_bias", y.dtype, size, b, y, np.uint64(size), np.uint64(n * h), np.int32(h))

    def linear_activation(self, x: Array, w: Array, b: Array, s: Array, y: Array, *, kind: str) -> None:
        if _is_small(x, w):
            self._small_linear(x, w, b, s, y, ACTIVATION_NUMBERS[kind])
        else:
            chains.linear_activation(self, x, w, b, s, y, kind=kind)

    def _small_linear(self, x: Array, w: Array, b: Array | None, s: Array, y: Array | None, kind: int) -> None:
        (m, n, d), h = x.shape, w.shape[2]
        n_tiles, deep = tiles(n) * tiles(h), tiles(d)
        splits = max(1, min(SPLIT_BLOCKS // (m * n_tiles), deep // SHORTEST_SPLIT))
        per_split = -(-deep // splits) * TILE
        splits = -(-d // per_split)
        parts, arrived = self._scratch(x.dtype)
        self._launch("linear", x.dtype, (n_tiles, splits, m), (TILE_THREADS,), x, w, b, s, y, np.int32(n), np.int32(d),
                     np.int32(h), *place(x), np.int32(kind), np.int32(per_split), parts, arrived)

    def _scratch(self, dtype: Any) -> tuple[Array, Array]:
        """For split products: the parts, and how many of a tile's blocks have arrived (0 between launches)."""
        if str(dtype) not in self._split_scratch:
            self._split_scratch[str(dtype)] = (self._xp.zeros((SPLIT_BLOCKS * TILE * TILE,), dtype=dtype),
                                               self._xp.zeros((SPLIT_BLOCKS,), dtype=np.int32))
        return self._split_scratch[str(dtype)]

    def linear_backward(self, gy: Array, x: Array, w: Array, gw: Array, gb: Array | None, gx: Array | None) -> None:
        if _is_small(x, w) and x.shape[1] <= MOST_ROWS:
            self._small_linear_backward(gy, x, w, gw, gb, gx, gx, None, None, 0)
            return
        self._product(x.swapaxes(-1, -2), gy, gw)
        if gb is not None:
            (_, n, h), size = gy.shape, gb.size
            self._elementwise("bias_gradient", gy.dtype, size, gy, gb, np.uint64(size), np.int32(n), np.int32(h))
        if gx is not None:
            self._product(gy, w.swapaxes(-1, -2), gx)

    def linear_backward_activation_backward(self, gy: Array, x: Array, w: Array, gw: Array, gb: Array | None, gx: Array,
                                            s_below: Array, y_below: Array, gy_below: Array, gs_below: Array,
                                            *, kind: str) -> None:
        if _is_small(x, w) and x.shape[1] <= MOST_ROWS:
            self._small_linear_backward(gy, x, w, gw, gb, gx, gs_below, s_below, y_below, ACTIVATION_NUMBERS[kind])
        else:
            chains.linear_backward_activation_backward(self, gy, x, w, gw, gb, gx, s_below, y_below, gy_below, gs_below,
                                                       kind=kind)

    def _small_linear_backward(self, gy: Array, x: Array, w: Array, gw: Array, gb: Array | None, gx: Array | None,
                               result: Array | None, s_below: Array | None, y_below: Array | None, kind: int) -> None:
        """`result` is gx, or the gradient below the activation, which lies as gx does."""
        (m, n, d), h = x.shape, w.shape[2]
        of_weights = tiles(d + (gb is not None)) * tiles(h)
        of_inputs = 0 if gx is None else tiles(n) * tiles(d)
        self._launch("linear_backward", x.dtype, (of_weights + of_inputs, m), (TILE_THREADS,), gy, x, w, gw, gb,
                     result, s_below, y_below, np.int32(n), np.int32(d), np.int32(h), *place(x),
                     *place(x if gx is None else gx), np.int32(kind), np.int32(of_weights))

    # ------------------------------------------------------------------------------------------------ batch norm

    def batch_norm_activation(self, x: Array, weights: Array, gamma: Array, beta: Array, mean: Array, var: Array,
                              inv_std: Array, y: Array, *, kind: str, eps: float) -> None:
        m, n, h = x.shape
        self._launch("batch_norm_activation", x.dtype, (tiles(h), m), _column_block(n, x.dtype), x, weights, gamma,
                     beta, mean, var, inv_std, y, np.int32(n), np.int32(h), np.int32(ACTIVATION_NUMBERS[kind]),
                     np.float64(eps))

    def linear_batch_norm_activation(self, x: Array, w: Array, s: Array, weights: Array, gamma: Array, beta: Array,
                                     mean: Array, var: Array, inv_std: Array, y: Array, *, kind: str,
                                     eps: float) -> None:
        (m, n, d), h = x.shape, w.shape[2]
        if n * d > COLUMN_WORK or not _is_small(x, w):
            chains.linear_batch_norm_activation(self, x, w, s, weights, gamma, beta, mean, var, inv_std, y, kind=kind,
                                                eps=eps)
            return
        self._launch("linear_batch_norm_activation", x.dtype, (tiles(h), m), _column_block(n, x.dtype), x, w, s,
                     weights, gamma, beta, mean, var, inv_std, y, np.int32(n), np.int32(d), np.int32(h), *place(x),
                     np.int32(ACTIVATION_NUMBERS[kind]), np.float64(eps))

    def batch_norm_activation_backward(self, gy: Array, x: Array, y: Array, weights: Array, gamma: Array, beta: Array,
                                       mean: Array, inv_std: Array, gx: Array, ggamma: Array, gbeta: Array,
                                       *, kind: str) -> None:
        m, n, h = x.shape
        self._launch("batch_norm_activation_backward", x.dtype, (tiles(h), m), _column_block(n, x.dtype), gy, x, y,
                     weights, gamma, beta, mean, inv_std, gx, ggamma, gbeta, np.int32(n), np.int32(h),
                     np.int32(ACTIVATION_NUMBERS[kind]))

    def linear_backward_batch_norm_activation_backward(
            self, gy: Array, x: Array, w: Array, gw: Array, gb: Array | None, gx: Array, s_below: Array,
            y_below: Array, gy_below: Array, weights: Array, gamma: Array, beta: Array, mean: Array, inv_std: Array,
            gs_below: Array, ggamma: Array, gbeta: Array, *, kind: str) -> None:
        (m, n, d), h = x.shape, w.shape[2]
        if n * h > COLUMN_WORK or n > MOST_ROWS or not _is_small(x, w):
            chains.linear_backward_batch_norm_activation_backward(
                self, gy, x, w, gw, gb, gx, s_below, y_below, gy_below, weights, gamma, beta, mean, inv_std, gs_below,
                ggamma, gbeta, kind=kind)
            return
        block = _column_block(n, x.dtype)
        of_weights = -(-tiles(d + (gb is not None)) // block[1]) * tiles(h)
        self._launch("linear_backward_batch_norm_activation_backward", x.dtype, (of_weights + tiles(d), m), block, gy,
                     x, w, gw, gb, gy_below, s_below, y_below, weights, gamma, beta, mean, inv_std, gs_below, ggamma,
                     gbeta, np.int32(n), np.int32(d), np.int32(h), *place(x), np.int32(ACTIVATION_NUMBERS[kind]),
                     np.int32(of_weights))

    # ------------------------------------------------------------------------------------------------ losses

    def cross_entropy(self, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array,
                      *, smoothing: float = 0.0) -> None:
        self._loss("cross_entropy", logits, targets, weights, loss, glogits, np.float64(smoothing))

    def hinge(self, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array) -> None:
        self._loss("hinge", logits, targets, weights, loss, glogits)

    def _loss(self, name: str, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array,
              *numbers: np.float64) -> None:
        m, n, c = logits.shape
        self._launch(name, logits.dtype, (m,), _row_block(n, logits.dtype), logits, targets, weights, loss, glogits,
                     np.int32(n), np.int32(c), *place(logits), *place(glogits), *numbers)

    def count_correct(self, logits: Array, labels: Array, counts: Array, correct: Array) -> None:
        m, n, c = logits.shape
        self._launch("count_correct", logits.dtype, (m,), _row_block(n, logits.dtype), logits, labels, counts, correct,
                     np.int32(n), np.int32(c), *place(logits))

    # ------------------------------------------------------------------------------------------------ number by number

    def _elementwise(self, name: str, dtype: Any, size: int, *arguments: Any) -> None:
        self._launch(name, dtype, (-(-size // THREADS),), (THREADS,), *arguments)

    def activation(self, x: Array, y: Array, *, kind: str) -> None:
        self._elementwise("activation", x.dtype, x.size, x, y, np.uint64(x.size), np.int32(ACTIVATION_NUMBERS[kind]))

    def activation_backward(self, gy: Array, x: Array, y: Array, gx: Array, *, kind: str) -> None:
        self._elementwise("activation_backward", x.dtype, x.size, gy, x, y, gx, np.uint64(x.size),
                          np.int32(ACTIVATION_NUMBERS[kind]))

    def dropout(self, x: Array, keys: Array, y: Array, *, rate: float) -> None:
        _, n, h = x.shape
        self._elementwise("dropout", x.dtype, x.size, x, keys, y, np.uint64(x.size), np.int32(n), np.int32(h),
                          np.uint32(masks.threshold(rate)), np.float64(1.0 / (1.0 - rate)), *place(x), *place(y))

    def moving_average(self, new: Array, decay: float, running: Array) -> None:
        self._elementwise("moving_average", new.dtype, new.size, new, np.float64(decay), running, np.uint64(new.size))

    def sgd(self, gradients: Array, lr: Array, l2: Array, velocity: Array | None, parameters: Array,
            *, blocks: Blocks, momentum: float, nesterov: bool) -> None:
        self._elementwise("sgd", parameters.dtype, parameters.size, gradients, lr, l2, velocity, parameters,
                          self._table(blocks), np.uint32(parameters.size), np.float64(momentum), np.bool_(nesterov))

    def adam(self, gradients: Array, lr: Array, l2: Array, corrections: Array, first: Array, second: Array,
             parameters: Array, *, blocks: Blocks, beta1: float, beta2: float, eps: float, decoupled: bool) -> None:
        self._elementwise("adam", parameters.dtype, parameters.size, gradients, lr, l2, corrections, first, second,
                          parameters, self._table(blocks), np.uint32(parameters.size), np.float64(beta1),
                          np.float64(beta2), np.float64(eps), np.bool_(decoupled))

    def _table(self, blocks: Blocks) -> Array:
        """The blocks as cuda/update.cu reads them, uploaded once."""
        if blocks not in self._tables:
            if blocks[-1].stop > MOST_PARAMETERS:
                raise DeviceError(f"a population of {blocks[-1].stop} parameters is larger than the {MOST_PARAMETERS} "
                                  f"that one update takes: train fewer members at once")
            rows = [(block.stop, math.prod(block.shape[1:]) if block.columns_per_member else block.stop - block.start,
                     block.columns_per_member or math.prod(block.shape[1:]), block.is_weight) for block in blocks]
            self._tables[blocks] = self._xp.asarray(np.array(rows, np.uint32))
        return self._tables[blocks]


def _kind(data: Array, x: Array) -> str:
    """The end of the name of a kernel that reads such data into x."""
    if data.dtype not in (np.uint8, x.dtype):
        raise TypeError(f"data of {data.dtype} cannot be gathered into {x.dtype}: keep bytes or {x.dtype}")
    return "_bytes" if data.dtype == np.uint8 else "_numbers"


def _is_small(x: Array, w: Array) -> bool:
    """Whether our kernels multiply x (M, N, D) and w (M, D, H), and their like in the backward pass."""
    return bool(x.size * w.shape[2] <= SMALL_PRODUCT)


def _column_block(n: int, dtype: Any) -> tuple[int, int]:
    """Threads of a block that has whole columns of n rows."""
    return TILE_THREADS, min(MOST_GROUPS[str(dtype)], tiles(n))


def _row_block(n: int, dtype: Any) -> tuple[int]:
    """Threads of a block in which each warp takes a row, and then another."""
    return (min(ROW_THREADS[str(dtype)], 32 * n),)
