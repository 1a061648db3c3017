"""Every operation of a training step, once, in plain array code: the readable truth.

Each operation writes its results into the arrays named last ("-> ..." below); outputs never share memory with inputs.
Leading axes: M members (networks trained at once), N examples of a batch; then D inputs, H units, C classes.
`xp` is the array library: anything with the functions of the Python array API standard, such as NumPy or CuPy.

A faster maker offers some of these names with the same arguments, less `xp`, and answers to this file by test.
In order of use in a step:

    gather                          rows of the data set -> one batch, standardised, and its one-hot targets
    gather_moved                    the same for images, each mirrored and shifted on the way
    batch_weights                   the examples' shares in their mean, where they have sample weights
    linear                          x w + b
    batch_norm_activation           activation(gamma * x_hat + beta), x_hat normalised over the batch
    activation                      the same without batch norm
    dropout                         sets random units to 0; on the way back their gradients
    cross_entropy, hinge            loss and its gradient with respect to the logits
    activation_backward, batch_norm_activation_backward, linear_backward
    moving_average                  batch norm's running statistics
    sgd, adam                       the update of the parameters
    count_correct                   (evaluation only)
"""

from __future__ import annotations

from typing import Any

from fastmlp.kernels import masks
from fastmlp.kernels.activations import ACTIVATIONS

Array = Any
Blocks = Any    # of layout.Block: stretches of the flat buffers of parameters


def gather(data: Array, labels: Array, classes: Array, rows: Array, mean: Array | None, inv_std: Array | None,
           x: Array, targets: Array, *, xp: Any) -> None:
    """Copy the chosen rows of the data set into the batch, standardise them on the way, and write their targets.

    data (n, D) bytes or x's dtype, labels (n,) int, classes (C,) = 0, 1, ...; rows (N,) int; mean, inv_std (D,) or None
    for data stored ready  ->  x (N, D), targets (N, C) one-hot
    """
    chosen = xp.astype(xp.take(data, rows, axis=0), x.dtype)                # (N, D)
    x[...] = chosen if mean is None else (chosen - mean) * inv_std
    targets[...] = xp.astype(xp.take(labels, rows, axis=0)[:, None] == classes, targets.dtype)


def gather_moved(data: Array, labels: Array, classes: Array, rows: Array, moves: Array, mean: Array | None,
                 inv_std: Array | None, x: Array, targets: Array, *, image_shape: tuple[int, int, int],
                 xp: Any) -> None:
    """`gather` of images, each of which is first mirrored left-right, or not, and then shifted.

    As in `gather`; image_shape (channels, height, width), whose product is D; moves (3, N) int: 1 to mirror or else 0,
    pixels down, pixels to the right (below 0: up, to the left), fewer than height and width
    ->  x (N, D), targets (N, C)
    What comes in at an edge repeats the edge. Mean and deviation are those of the place where a pixel comes to lie.
    """
    channels, height, width = image_shape

    def numbers(n: int) -> Array:
        return xp.arange(n, dtype=moves.dtype, device=moves.device)

    mirror, down, right = (moves[k, :][:, None] for k in range(3))          # (N, 1)
    i = xp.clip(numbers(height) - down, 0, height - 1)                      # (N, height): from which line, ...
    j = xp.clip(numbers(width) - right, 0, width - 1)                       # (N, width): ... and from where in it
    j = xp.where(mirror == 1, width - 1 - j, j)
    channel = rows[:, None] * channels + numbers(channels)                  # (N, channels), of all in the data set
    line = channel[:, :, None] * height + i[:, None, :]                     # (N, channels, height), likewise
    place = line[:, :, :, None] * width + j[:, None, None, :]               # (N, channels, height, width)
    moved = xp.take(xp.reshape(data, (-1,)), xp.reshape(place, (-1,)), axis=0)
    gather(xp.reshape(moved, x.shape), xp.take(labels, rows, axis=0), classes, numbers(x.shape[0]), mean, inv_std, x,
           targets, xp=xp)


def batch_weights(sample_weight: Array, rows: Array, weights: Array, *, xp: Any) -> None:
    """Each chosen example's share in their mean: its sample weight over their sum; all 0 if they are.

    sample_weight (n,), not negative; rows (N,) int  ->  weights (N,)
    """
    chosen = xp.take(sample_weight, rows, axis=0)                           # (N,)
    total = xp.sum(chosen)
    weights[...] = chosen / xp.where(total > 0, total, xp.ones_like(total))


def linear(x: Array, w: Array, b: Array | None, y: Array, *, xp: Any) -> None:
    """The affine map of a layer; `b` is None before batch norm, which would subtract it again.

    x (M, N, D), w (M, D, H), b (M, H) or None  ->  y (M, N, H)
    """
    product = xp.matmul(x, w)                                               # (M, N, H)
    y[...] = product if b is None else product + b[:, None, :]


def activation(x: Array, y: Array, *, kind: str, xp: Any) -> None:
    """Apply the non-linearity.  x (M, N, H)  ->  y (M, N, H)."""
    y[...] = ACTIVATIONS[kind].value(x, xp)


def batch_norm_activation(x: Array, weights: Array, gamma: Array, beta: Array, mean: Array, var: Array,
                          inv_std: Array, y: Array, *, kind: str, eps: float, xp: Any) -> None:
    """Normalise every unit over the batch, scale, shift, apply the non-linearity.

    x (M, N, H), weights (N,) that sum to 1, gamma, beta (M, H)  ->  mean, var, inv_std (M, H), y (M, N, H)
    Ioffe & Szegedy 2015, algorithm 1, with the biased variance. Its 1 / N is the example's weight here: weight 2 counts
    as two equal examples, weight 0 as none. The mean is measured from the first example: so that of a constant unit is
    exact, and it is 0 after centring, also where it is large and the weights, being rounded, do not quite sum to 1.
    """
    first = x[:, :1, :]                                                     # (M, 1, H)
    mean[...] = first[:, 0, :] + xp.sum(weights[:, None] * (x - first), axis=-2)    # (M, H)
    centred = x - mean[:, None, :]                                          # (M, N, H)
    var[...] = xp.sum(weights[:, None] * centred * centred, axis=-2)        # (M, H)
    inv_std[...] = xp.sqrt(var + eps) / (var + eps)                         # (M, H); NaN where var is infinite, ...
    x_hat = centred * inv_std[:, None, :]                                   # ... so that a loss tells of it
    y[...] = ACTIVATIONS[kind].value(gamma[:, None, :] * x_hat + beta[:, None, :], xp)


def dropout(x: Array, keys: Array, y: Array, *, rate: float, xp: Any) -> None:
    """Set a random fraction `rate` of all numbers to 0 and divide the others by 1 - rate.

    x (M, N, H), keys (M,) uint32  ->  y (M, N, H)
    Srivastava et al. 2014, with the division already in training, so that the mean of a unit is that of evaluation.
    The gradient through it is the same operation with the same keys. Makers agree on what is dropped, bit for bit.
    """
    _, n, h = x.shape
    rows, units = (xp.arange(length, dtype=xp.uint32, device=keys.device) for length in (n, h))
    kept = masks.drawn(keys, rows, units) >= masks.threshold(rate)                      # (M, N, H)
    y[...] = x * (xp.astype(kept, x.dtype) * (1.0 / (1.0 - rate)))


def cross_entropy(logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array, *,
                  smoothing: float = 0.0, xp: Any) -> None:
    """Softmax and cross-entropy together: loss and gradient from one pass.

    logits (M, N, C), targets (N, C) rows that sum to 1, weights (N,) that sum to 1  ->  loss (M,), glogits (M, N, C)
    The row maximum is subtracted first: exp cannot overflow and the sum is at least 1. The fraction `smoothing` of each
    target is spread evenly over all classes (Szegedy et al. 2016, section 7).
    """
    targets = (1.0 - smoothing) * targets + smoothing / targets.shape[-1]
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))   # (M, N, C)
    loss[...] = -xp.sum(weights[:, None] * targets * log_p, axis=(-2, -1))      # (M,)
    glogits[...] = weights[:, None] * (xp.exp(log_p) - targets)


def hinge(logits: Array, targets: Array, weights: Array, loss: Array, glogits: Array, *, xp: Any) -> None:
    """Multi-class support vector loss: sum over the wrong classes of max(0, s_j - s_correct + 1).

    logits (M, N, C), targets (N, C) one-hot, weights (N,) that sum to 1  ->  loss (M,), glogits (M, N, C)
    Weston & Watkins 1999; the correct class has margin 0 and so never counts.
    """
    correct = xp.sum(logits * targets, axis=-1, keepdims=True)              # (M, N, 1)
    margin = xp.maximum(logits - correct + 1.0 - targets, 0.0)              # (M, N, C)
    loss[...] = xp.sum(weights[:, None] * margin, axis=(-2, -1))            # (M,)
    violated = xp.astype(margin > 0, logits.dtype)
    glogits[...] = weights[:, None] * (violated - targets * xp.sum(violated, axis=-1, keepdims=True))


def activation_backward(gy: Array, x: Array, y: Array, gx: Array, *, kind: str, xp: Any) -> None:
    """Gradient through `activation`.  gy, x, y (M, N, H)  ->  gx (M, N, H)."""
    gx[...] = gy * ACTIVATIONS[kind].slope(x, y, xp)


def batch_norm_activation_backward(gy: Array, x: Array, y: Array, weights: Array, gamma: Array, beta: Array,
                                   mean: Array, inv_std: Array, gx: Array, ggamma: Array, gbeta: Array,
                                   *, kind: str, xp: Any) -> None:
    """Gradient through `batch_norm_activation`; x_hat is computed again from x rather than kept.

    gy, x, y (M, N, H), weights (N,), gamma, beta, mean, inv_std (M, H)  ->  gx (M, N, H), ggamma, gbeta (M, H)
    Ioffe & Szegedy 2015, section 3, with the sums over the batch collected.
    """
    x_hat = (x - mean[:, None, :]) * inv_std[:, None, :]                    # (M, N, H)
    s = gamma[:, None, :] * x_hat + beta[:, None, :]                        # (M, N, H)
    gs = gy * ACTIVATIONS[kind].slope(s, y, xp)                             # (M, N, H)
    gbeta[...] = xp.sum(gs, axis=-2)                                        # (M, H)
    ggamma[...] = xp.sum(gs * x_hat, axis=-2)                               # (M, H)
    centred = gs - weights[:, None] * (gbeta[:, None, :] + x_hat * ggamma[:, None, :])
    gx[...] = (gamma * inv_std)[:, None, :] * centred


def linear_backward(gy: Array, x: Array, w: Array, gw: Array, gb: Array | None, gx: Array | None, *, xp: Any) -> None:
    """Gradient through `linear`; gb is None where there is no bias, gx where nobody needs it (the first layer).

    gy (M, N, H), x (M, N, D), w (M, D, H)  ->  gw (M, D, H), gb (M, H), gx (M, N, D)
    """
    gw[...] = xp.matmul(xp.matrix_transpose(x), gy)
    if gb is not None:
        gb[...] = xp.sum(gy, axis=-2)
    if gx is not None:
        gx[...] = xp.matmul(gy, xp.matrix_transpose(w))


def moving_average(new: Array, decay: float, running: Array, *, xp: Any) -> None:
    """Running statistics; `decay` is the fraction of the old value that is kept.  new (S,)  ->  running (S,)."""
    running[...] = decay * running + (1.0 - decay) * new


def sgd(gradients: Array, lr: Array, l2: Array, velocity: Array | None, parameters: Array,
        *, blocks: Blocks, momentum: float, nesterov: bool, xp: Any) -> None:
    """Gradient descent with the penalty l2 * sum of squared weights, and momentum.

    gradients (P,), destroyed; lr, l2 (M,); velocity (P,) or None without momentum  ->  velocity, parameters (P,)
    `blocks` say what in the P numbers belongs to whom, and which are weights. Sutskever et al. 2013, with the rate
    outside the velocity, so that a changing rate acts at once.
    """
    for block in blocks:
        p, rate, penalty = block.view(parameters), block.spread(lr), block.penalty(l2)
        g = block.view(gradients) if penalty is None else block.view(gradients) + penalty * p
        if velocity is not None:
            v = block.view(velocity)
            v[...] = momentum * v + g
            g = g + momentum * v if nesterov else v
        p[...] = p - rate * g


def adam(gradients: Array, lr: Array, l2: Array, corrections: Array, first: Array, second: Array, parameters: Array,
         *, blocks: Blocks, beta1: float, beta2: float, eps: float, decoupled: bool, xp: Any) -> None:
    """Adam (Kingma & Ba 2015, algorithm 1), or AdamW when the penalty is decoupled (Loshchilov & Hutter 2019).

    gradients (P,), destroyed; lr, l2 (M,); corrections (2,) = 1 - beta1^t, 1 - beta2^t at update t from 1 on
    ->  first, second (P,) the moments, parameters (P,)
    """
    for block in blocks:
        p, g, rate, penalty = block.view(parameters), block.view(gradients), block.spread(lr), block.penalty(l2)
        if penalty is not None and not decoupled:
            g = g + penalty * p
        if penalty is not None and decoupled:
            p[...] = p - rate * penalty * p
        m, v = block.view(first), block.view(second)
        m[...] = beta1 * m + (1.0 - beta1) * g
        v[...] = beta2 * v + (1.0 - beta2) * g * g
        p[...] = p - rate * (m / corrections[0]) / (xp.sqrt(v / corrections[1]) + eps)


def count_correct(logits: Array, labels: Array, counts: Array, correct: Array, *, xp: Any) -> None:
    """How much the examples count together whose own class has the highest logit.

    logits (M, N, C), labels (N,), counts (N,) all 1 or sample weights  ->  correct (M,)
    """
    hits = xp.argmax(logits, axis=-1) == labels                             # (M, N)
    correct[...] = xp.sum(counts * xp.astype(hits, counts.dtype), axis=-1)  # (M,)
