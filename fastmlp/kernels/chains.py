"""Operations that follow one another, joined: what a maker may do in one launch, and what they are without one.

A chain is no formula of its own. Its name is the names of its operations; it writes what they write. A maker that
offers one decides itself, by the shapes, when one launch is faster; `kernels` are its bound operations.
"""

from __future__ import annotations

from typing import Any

Array = Any
Kernels = Any


def linear_activation(kernels: Kernels, x: Array, w: Array, b: Array, s: Array, y: Array, *, kind: str) -> None:
    """A hidden layer without batch norm.  x (M, N, D), w (M, D, H), b (M, H)  ->  s, y (M, N, H)."""
    kernels.linear(x, w, b, s)
    kernels.activation(s, y, kind=kind)


def linear_batch_norm_activation(kernels: Kernels, x: Array, w: Array, s: Array, weights: Array, gamma: Array,
                                 beta: Array, mean: Array, var: Array, inv_std: Array, y: Array, *, kind: str,
                                 eps: float) -> None:
    """A hidden layer with batch norm.  x (M, N, D), w (M, D, H)  ->  s, y (M, N, H), mean, var, inv_std (M, H)."""
    kernels.linear(x, w, None, s)
    kernels.batch_norm_activation(s, weights, gamma, beta, mean, var, inv_std, y, kind=kind, eps=eps)


def linear_backward_activation_backward(kernels: Kernels, gy: Array, x: Array, w: Array, gw: Array, gb: Array | None,
                                        gx: Array, s_below: Array, y_below: Array, gy_below: Array, gs_below: Array,
                                        *, kind: str) -> None:
    """Back through a layer and the activation below it.

    gy (M, N, H), x (M, N, D), w (M, D, H)  ->  gw (M, D, H), gb (M, H); s, y, gy, gs of the layer below as it keeps
    them: (1, N, M * D) in the first layer, (M, N, D) beyond; x and gx are views (M, N, D) of its y and gy. Writes gs;
    gy is scratch.
    """
    kernels.linear_backward(gy, x, w, gw, gb, gx)
    kernels.activation_backward(gy_below, s_below, y_below, gs_below, kind=kind)


def linear_backward_batch_norm_activation_backward(
        kernels: Kernels, gy: Array, x: Array, w: Array, gw: Array, gb: Array | None, gx: Array, s_below: Array,
        y_below: Array, gy_below: Array, weights: Array, gamma: Array, beta: Array, mean: Array, inv_std: Array,
        gs_below: Array, ggamma: Array, gbeta: Array, *, kind: str) -> None:
    """The same with batch norm below: gamma, beta, mean, inv_std -> ggamma, gbeta are the layer's below too."""
    kernels.linear_backward(gy, x, w, gw, gb, gx)
    kernels.batch_norm_activation_backward(gy_below, s_below, y_below, weights, gamma, beta, mean, inv_std, gs_below,
                                           ggamma, gbeta, kind=kind)
