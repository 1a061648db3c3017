"""CuPy's maker of the kernel contract: few launches a step.

What each operation does, and the shapes, stand in `reference`. On a GPU a small network's step is limited by launches,
so whatever is not a matrix product is one launch here: elementwise kernels below, block kernels in `cuda/*.cu`.
Products are cuBLAS's. `FusedKernels` is given CuPy and imports it nowhere: it can be checked without a GPU.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np

from fastmlp.kernels.activations import ACTIVATIONS

Array = Any

COLUMNS, LANES = 32, 8      # a block of batch_norm.cu
ROW_THREADS = 128           # a block of cross_entropy.cu
C_TYPES = {"float32": "float", "float64": "double"}
ACTIVATION_NUMBERS = {kind: number for number, kind in enumerate(ACTIVATIONS)}     # as in cuda/activations.cuh


def cuda_source(name: str) -> str:
    """The text of a file in `cuda/`."""
    return files("fastmlp.kernels").joinpath("cuda", name).read_text(encoding="utf-8")


class FusedKernels:
    """The operations of the contract as methods, for one CuPy.

    Parameters
    ----------
    xp : module
        `cupy`, or a stand-in with its kernel classes. Nothing is compiled before an operation's first call.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._modules: dict[tuple[str, str], Any] = {}
        elementwise = xp.ElementwiseKernel
        activations = "#define REAL T\n" + cuda_source("activations.cuh")
        self._gather = elementwise(
            "raw S data, raw I rows, raw T mean, raw T inv_std, int64 width", "T x",
            "x = (T(data[rows[i / width] * width + i % width]) - mean[i % width]) * inv_std[i % width]",
            "fastmlp_gather_standardise")
        self._copy_rows = elementwise(
            "raw S data, raw I rows, int64 width", "T x", "x = T(data[rows[i / width] * width + i % width])",
            "fastmlp_gather_ready")
        self._activation = elementwise(
            "T x, int32 kind", "T y", "y = activation_value(kind, x)", "fastmlp_activation", preamble=activations)
        self._activation_backward = elementwise(
            "T gy, T x, T y, int32 kind", "T gx", "gx = gy * activation_slope(kind, x, y)",
            "fastmlp_activation_backward", preamble=activations)
        self._add_bias = elementwise("T product, T b", "T y", "y = product + b", "fastmlp_add_bias")
        self._moving_average = elementwise(
            "T fresh, T decay, T old", "T running", "running = decay * old + (1 - decay) * fresh",
            "fastmlp_moving_average")
        self._sgd = elementwise(
            "T g, T lr, T penalty, T old", "T p", "p = old - lr * (g + penalty * old)", "fastmlp_sgd")
        self._sgd_momentum = elementwise(
            "T g, T lr, T penalty, T momentum, bool nesterov, T old_v, T old", "T v, T p",
            "T total = g + penalty * old; T fresh = momentum * old_v + total; v = fresh;"
            "p = old - lr * (nesterov ? total + momentum * fresh : fresh)", "fastmlp_sgd_momentum")
        self._adam = elementwise(
            "T g, T lr, T penalty, T beta1, T beta2, T eps, T bias1, T bias2, bool decoupled, T old_m, T old_v, T old",
            "T m, T v, T p",
            "T shrunk = decoupled ? old - lr * penalty * old : old; T total = decoupled ? g : g + penalty * old;"
            "T first = beta1 * old_m + (1 - beta1) * total; T second = beta2 * old_v + (1 - beta2) * total * total;"
            "m = first; v = second; p = shrunk - lr * (first / bias1) / (sqrt(second / bias2) + eps)", "fastmlp_adam")

    def _block_kernel(self, file: str, name: str, dtype: Any) -> Any:
        """A function of a `.cu` file, compiled for one dtype at its first use."""
        key = (file, str(dtype))
        if key not in self._modules:
            code = f"#define REAL {C_TYPES[str(dtype)]}\n" + cuda_source("activations.cuh") + cuda_source(file)
            self._modules[key] = self._xp.RawModule(code=code)
        return self._modules[key].get_function(name)

    def gather(self, data: Array, rows: Array, mean: Array | None, inv_std: Array | None, x: Array) -> None:
        if mean is None:
            self._copy_rows(data, rows, x.shape[1], x)
        else:
            self._gather(data, rows, mean, inv_std, x.shape[1], x)

    def linear(self, x: Array, w: Array, b: Array | None, y: Array) -> None:
        self._product(x, w, y)
        if b is not None:
            self._add_bias(y, b[:, None, :], y)

    def linear_backward(self, gy: Array, x: Array, w: Array, gw: Array, gb: Array | None, gx: Array | None) -> None:
        self._product(x.swapaxes(-1, -2), gy, gw)
        if gb is not None:
            self._xp.sum(gy, axis=-2, out=gb)
        if gx is not None:
            self._product(gy, w.swapaxes(-1, -2), gx)

    def _product(self, a: Array, b: Array, out: Array) -> None:
        """Batched product; one matrix is given as such, since CuPy copies transposed operands of batched ones."""
        if out.shape[0] == 1:
            self._xp.matmul(a[0], b[0], out=out[0])
        elif out.flags.c_contiguous:
            self._xp.matmul(a, b, out=out)
        else:
            out[...] = self._xp.matmul(a, b)

    def activation(self, x: Array, y: Array, *, kind: str) -> None:
        self._activation(x, ACTIVATION_NUMBERS[kind], y)

    def activation_backward(self, gy: Array, x: Array, y: Array, gx: Array, *, kind: str) -> None:
        self._activation_backward(gy, x, y, ACTIVATION_NUMBERS[kind], gx)

    def batch_norm_activation(self, x: Array, weights: Array, gamma: Array, beta: Array, mean: Array, var: Array,
                              inv_std: Array, y: Array, *, kind: str, eps: float) -> None:
        m, n, h = x.shape
        self._block_kernel("batch_norm.cu", "batch_norm_activation", x.dtype)(
            (-(-h // COLUMNS), m), (COLUMNS, LANES),
            (x, weights, gamma, beta, mean, var, inv_std, y, np.int32(n), np.int32(h),
             np.int32(ACTIVATION_NUMBERS[kind]), np.float64(eps)))

    def batch_norm_activation_backward(self, gy: Array, x: Array, y: Array, weights: Array, gamma: Array, beta: Array,
                                       mean: Array, inv_std: Array, gx: Array, ggamma: Array, gbeta: Array,
                                       *, kind: str) -> None:
        m, n, h = x.shape
        self._block_kernel("batch_norm.cu", "batch_norm_activation_backward", x.dtype)(
            (-(-h // COLUMNS), m), (COLUMNS, LANES),
            (gy, x, y, weights, gamma, beta, mean, inv_std, gx, ggamma, gbeta, np.int32(n), np.int32(h),
             np.int32(ACTIVATION_NUMBERS[kind])))

    def cross_entropy(self, logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array) -> None:
        m, n, c = logits.shape
        item = logits.dtype.itemsize
        strides = [np.int64(stride // item) for stride in
                   (*logits.strides[:2], *glogits.strides[:2], loss.strides[0])]
        self._block_kernel("cross_entropy.cu", "cross_entropy", logits.dtype)(
            (m,), (ROW_THREADS,), (logits, targets, weights, loss, glogits, np.int32(n), np.int32(c), *strides))

    def moving_average(self, new: Array, decay: float, running: Array) -> None:
        self._moving_average(new, decay, running, running)

    def sgd(self, gradients: Array, lr: Array, penalty: Array | None, velocity: Array | None, parameters: Array,
            *, momentum: float, nesterov: bool) -> None:
        shrink = 0.0 if penalty is None else penalty
        if velocity is None:
            self._sgd(gradients, lr, shrink, parameters, parameters)
        else:
            self._sgd_momentum(gradients, lr, shrink, momentum, nesterov, velocity, parameters, velocity, parameters)

    def adam(self, gradients: Array, lr: Array, penalty: Array | None, first: Array, second: Array, parameters: Array,
             *, step: int, beta1: float, beta2: float, eps: float, decoupled: bool) -> None:
        shrink = 0.0 if penalty is None else penalty
        self._adam(gradients, lr, shrink, beta1, beta2, eps, 1.0 - beta1**step, 1.0 - beta2**step, decoupled,
                   first, second, parameters, first, second, parameters)
