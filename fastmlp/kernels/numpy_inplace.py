"""NumPy's maker of the kernel contract: the same operations without large temporaries.

What each does, and the shapes, stand in `reference`. What is different here, and why:
- results go straight into the output arrays (`out=`), which then serve as scratch for their own computation;
- sums over the batch are products with a row of ones: on 100 x 50 one BLAS call takes a tenth of `ndarray.sum`;
- `gather` takes bytes first (a quarter of the traffic) and converts the batch while it lies in the cache;
- what makes new numbers computes with denormal ones as zero (`flushing`).
"""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import Any

import numpy as np

from fastmlp.kernels import masks
from fastmlp.kernels.activations import ACTIVATIONS
from fastmlp.kernels.denormals import flushing

Array = Any
Blocks = Any


@lru_cache(maxsize=64)
def _ones(n: int, dtype: np.dtype[Any]) -> Array:
    """A row of ones (1, n), shared by all callers and so read-only."""
    row = np.ones((1, n), dtype)
    row.flags.writeable = False
    return row


LARGEST_PRODUCT = 4096      # rows; BLAS adds more of them up with a visible error in float32
LARGEST_TILE = 4 << 20      # bytes; larger ones would gain nothing, as they leave the cache
_tiles: dict[tuple[int, int], Array] = {}


def _tile(row: Array, n: int) -> Array:
    """The row (D,) repeated n times, (n, D): adding it takes NumPy 27 us on 100 x 3072 where broadcasting takes 49.

    Remembered for as long as the row lives.
    """
    if n * row.nbytes > LARGEST_TILE:
        return row
    key = (id(row), n)
    tile = _tiles.get(key)
    if tile is None:
        tile = _tiles[key] = np.tile(row, (n, 1))
        weakref.finalize(row, _tiles.pop, key, None)
    return tile


def _column_sums(x: Array, out: Array, weights: Array | None = None) -> None:
    """Sum over the batch, weighted by (N,) if there are weights.  x (M, N, H)  ->  out (M, H)."""
    n = x.shape[-2]
    if n <= LARGEST_PRODUCT:
        np.matmul(_ones(n, x.dtype) if weights is None else weights[None, :], x, out=out[:, None, :])
    else:
        out[...] = np.add.reduce(x if weights is None else weights[:, None] * x, axis=-2, dtype=np.float64)


def gather(data: Array, labels: Array, classes: Array, rows: Array, mean: Array | None, inv_std: Array | None,
           x: Array, targets: Array) -> None:
    if data.dtype == x.dtype:
        np.take(data, rows, axis=0, out=x, mode="clip")     # "clip": with "raise" NumPy would copy through a buffer
    else:
        x[...] = np.take(data, rows, axis=0)
    if mean is not None:
        x -= _tile(mean, x.shape[0])
        x *= _tile(inv_std, x.shape[0])
    np.equal(labels[rows][:, None], classes, out=targets)


@flushing
def linear(x: Array, w: Array, b: Array | None, y: Array) -> None:
    np.matmul(x, w, out=y)
    if b is not None:
        y += b[:, None, :]


def activation(x: Array, y: Array, *, kind: str) -> None:
    if kind == "relu":
        np.maximum(x, 0.0, out=y)
    else:
        y[...] = ACTIVATIONS[kind].value(x, np)


@flushing
def batch_norm_activation(x: Array, weights: Array, gamma: Array, beta: Array, mean: Array, var: Array,
                          inv_std: Array, y: Array, *, kind: str, eps: float) -> None:
    np.subtract(x, x[:, :1, :], out=y)                      # y serves as x without its first row ...
    _column_sums(y, mean, weights)
    mean += x[:, 0, :]
    np.subtract(x, mean[:, None, :], out=y)                 # ... and then without its mean
    _column_sums(np.square(y), var, weights)
    np.add(var, eps, out=inv_std)
    np.divide(np.sqrt(inv_std), inv_std, out=inv_std)
    y *= (gamma * inv_std)[:, None, :]
    y += beta[:, None, :]
    activation(y, y, kind=kind)                             # elementwise, so safe in place


def dropout(x: Array, keys: Array, y: Array, *, rate: float) -> None:
    _, n, h = x.shape
    random = masks.drawn(keys, np.arange(n, dtype=np.uint32), np.arange(h, dtype=np.uint32))
    np.multiply(x, random >= masks.threshold(rate), out=y)
    y *= 1.0 / (1.0 - rate)


@flushing
def cross_entropy(logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array,
                  *, smoothing: float = 0.0) -> None:
    if smoothing:
        targets = (1.0 - smoothing) * targets + smoothing / targets.shape[1]
    np.subtract(logits, np.maximum.reduce(logits, axis=-1, keepdims=True), out=glogits)
    correct = np.matmul((glogits * targets), _ones(targets.shape[1], targets.dtype)[0])     # (M, N)
    np.exp(glogits, out=glogits)
    total = np.matmul(glogits, _ones(targets.shape[1], targets.dtype).T)                    # (M, N, 1)
    np.matmul(np.log(total[:, :, 0]) - correct, weights, out=loss)
    glogits *= weights[:, None] / total
    glogits -= weights[:, None] * targets


@flushing
def activation_backward(gy: Array, x: Array, y: Array, gx: Array, *, kind: str) -> None:
    if kind == "relu":
        np.multiply(gy, y > 0, out=gx)
    else:
        np.multiply(gy, ACTIVATIONS[kind].slope(x, y, np), out=gx)


@flushing
def batch_norm_activation_backward(gy: Array, x: Array, y: Array, weights: Array, gamma: Array, beta: Array,
                                   mean: Array, inv_std: Array, gx: Array, ggamma: Array, gbeta: Array,
                                   *, kind: str) -> None:
    x_hat = x - mean[:, None, :]                            # (M, N, H)
    x_hat *= inv_std[:, None, :]
    needs_s = kind not in ("relu", "leaky-relu", "tanh", "logistic")    # whose slopes are formulas of y alone
    s = gamma[:, None, :] * x_hat + beta[:, None, :] if needs_s else y
    activation_backward(gy, s, y, gx, kind=kind)
    _column_sums(gx, gbeta)
    _column_sums(gx * x_hat, ggamma)
    x_hat *= ggamma[:, None, :]
    x_hat += gbeta[:, None, :]
    x_hat *= weights[:, None]
    gx -= x_hat
    gx *= (gamma * inv_std)[:, None, :]


@flushing
def linear_backward(gy: Array, x: Array, w: Array, gw: Array, gb: Array | None, gx: Array | None) -> None:
    np.matmul(x.swapaxes(-1, -2), gy, out=gw)
    if gb is not None:
        _column_sums(gy, gb)
    if gx is not None:
        np.matmul(gy, w.swapaxes(-1, -2), out=gx)


@flushing
def moving_average(new: Array, decay: float, running: Array) -> None:
    running *= decay
    running += (1.0 - decay) * new


@flushing
def sgd(gradients: Array, lr: Array, l2: Array, velocity: Array | None, parameters: Array,
        *, blocks: Blocks, momentum: float, nesterov: bool) -> None:
    for block in blocks:
        p, g, rate, penalty = block.view(parameters), block.view(gradients), block.spread(lr), block.penalty(l2)
        if velocity is None:                                # p - rate (g + penalty p) = (1 - rate penalty) p - rate g
            if penalty is not None:
                p *= 1.0 - rate * penalty
            g *= rate
            p -= g
            continue
        if penalty is not None:
            g += penalty * p
        v = block.view(velocity)
        v *= momentum
        v += g
        if nesterov:
            g += momentum * v
            g *= rate
        else:
            np.multiply(v, rate, out=g)
        p -= g


@flushing
def adam(gradients: Array, lr: Array, l2: Array, corrections: Array, first: Array, second: Array, parameters: Array,
         *, blocks: Blocks, beta1: float, beta2: float, eps: float, decoupled: bool) -> None:
    for block in blocks:
        p, g, rate, penalty = block.view(parameters), block.view(gradients), block.spread(lr), block.penalty(l2)
        if penalty is not None and decoupled:
            p *= 1.0 - rate * penalty
        elif penalty is not None:
            g += penalty * p
        m, v = block.view(first), block.view(second)
        m *= beta1
        m += (1.0 - beta1) * g
        g *= g
        g *= 1.0 - beta2
        v *= beta2
        v += g
        np.sqrt(v, out=g)
        g *= corrections[1] ** -0.5
        g += eps
        np.divide(m, g, out=g)
        g *= rate / corrections[0]
        p -= g
