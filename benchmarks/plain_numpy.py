"""The same training step as a careful student writes it in NumPy: the peer that everyone has.

Float32, one network, batch norm with batch statistics, plain gradient descent. No running statistics, no loss: less
work than fastmlp does in a step.
"""

from itertools import pairwise

import numpy as np


class PlainNetwork:
    """Parameters as lists of arrays; see `step`."""

    def __init__(self, weights, batch_norm):
        self.batch_norm = batch_norm
        self.weights = weights
        self.biases = [np.zeros(w.shape[1], np.float32) for w in weights]
        self.gammas = [np.ones_like(b) for b in self.biases[:-1]]
        self.betas = [np.zeros_like(b) for b in self.biases[:-1]]

    def step(self, x, one_hot, lr, l2):
        """One update on a standardised batch x (N, D) with one-hot labels (N, C)."""
        n, hidden, kept = len(x), [x], []
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            s = hidden[-1] @ w + b
            if k == len(self.weights) - 1:
                break
            if self.batch_norm:
                inv_std = 1 / np.sqrt(s.var(axis=0) + 1e-5)
                x_hat = (s - s.mean(axis=0)) * inv_std
                kept.append((x_hat, inv_std))
                s = self.gammas[k] * x_hat + self.betas[k]
            hidden.append(np.maximum(s, 0))
        e = np.exp(s - s.max(axis=1, keepdims=True))
        g = (e / e.sum(axis=1, keepdims=True) - one_hot) / n
        for k in reversed(range(len(self.weights))):
            if k < len(self.weights) - 1:
                g = g * (hidden[k + 1] > 0)
                if self.batch_norm:
                    x_hat, inv_std = kept[k]
                    ggamma, gbeta = (g * x_hat).sum(axis=0), g.sum(axis=0)
                    g = g * self.gammas[k]
                    g = inv_std * (g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0))
                    self.gammas[k] -= lr * ggamma
                    self.betas[k] -= lr * gbeta
            gw, gb = hidden[k].T @ g + 2 * l2 * self.weights[k], g.sum(axis=0)
            if k > 0:
                g = g @ self.weights[k].T
            self.weights[k] -= lr * gw
            self.biases[k] -= lr * gb


class ProductsOnly:
    """The matrix products of a step and nothing else: no program can be faster without faster products.

    `place` puts a NumPy array where `matmul` computes: NumPy's, CuPy's or PyTorch's.
    """

    def __init__(self, sizes, batch, place, matmul):
        rng = np.random.default_rng(0)
        self.matmul = matmul
        self.weights = [place(rng.standard_normal(shape, np.float32)) for shape in pairwise(sizes)]
        self.gradients = [place(np.zeros(shape, np.float32)) for shape in pairwise(sizes)]
        self.values = [place(rng.standard_normal((batch, size), np.float32)) for size in sizes]
        self.slopes = [place(rng.standard_normal((batch, size), np.float32)) for size in sizes]

    def step(self):
        """Forward, weight-gradient and input-gradient products of one batch."""
        for k, w in enumerate(self.weights):
            self.matmul(self.values[k], w, out=self.values[k + 1])
        for k in reversed(range(len(self.weights))):
            self.matmul(self.values[k].T, self.slopes[k + 1], out=self.gradients[k])
            if k > 0:
                self.matmul(self.slopes[k + 1], self.weights[k].T, out=self.slopes[k])


class StackedProductsOnly:
    """The same of a population: the first layers side by side in one (D, K*H) matrix, as all members read one batch,
    the deeper ones batched."""

    def __init__(self, sizes, batch, members):
        rng = np.random.default_rng(0)

        def normal(*shape):
            return rng.standard_normal(shape, np.float32)

        self.x, self.wide = normal(batch, sizes[0]), normal(sizes[0], members * sizes[1])
        self.wide_gradient = np.zeros_like(self.wide)
        self.deep = [normal(members, *shape) for shape in pairwise(sizes[1:])]
        self.gradients = [np.zeros_like(w) for w in self.deep]
        # Of the first layer's outputs a member's are columns, of the others a block.
        self.flat, self.flat_slopes = (normal(batch, members * sizes[1]) for _ in range(2))
        self.values, self.slopes = (
            [flat.reshape(batch, members, sizes[1]).swapaxes(0, 1), *(normal(members, batch, n) for n in sizes[2:])]
            for flat in (self.flat, self.flat_slopes))

    def step(self):
        """Forward, weight-gradient and input-gradient products of one batch."""
        np.matmul(self.x, self.wide, out=self.flat)
        for k, w in enumerate(self.deep):
            np.matmul(self.values[k], w, out=self.values[k + 1])
        for k in reversed(range(len(self.deep))):
            np.matmul(self.values[k].swapaxes(1, 2), self.slopes[k + 1], out=self.gradients[k])
            np.matmul(self.slopes[k + 1], self.deep[k].swapaxes(1, 2), out=self.slopes[k])
        np.matmul(self.x.T, self.flat_slopes, out=self.wide_gradient)
