"""The non-linearities: each a value and a slope, in array code that any maker can fall back on.

`value(s, xp)` maps pre-activations to activations. `slope(s, y, xp)` is its derivative, written with whichever of the
pre-activation `s` and the activation `y = value(s)` makes the shorter formula. Both keep shape and dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any


class Activation(NamedTuple):
    """A non-linearity and its derivative; `has_kink` says whether the derivative jumps at zero."""

    value: Callable[[Array, Any], Array]
    slope: Callable[[Array, Array, Any], Array]
    has_kink: bool


LEAK = 0.01                             # slope of leaky ReLU left of zero (Maas et al. 2013)
GELU_SCALE = math.sqrt(2.0 / math.pi)   # the tanh form of GELU (Hendrycks & Gimpel 2016, section 2)
GELU_CUBIC = 0.044715


def relu(s: Array, xp: Any) -> Array:
    """`max(0, s)`."""
    return xp.maximum(s, 0.0)


def relu_slope(s: Array, y: Array, xp: Any) -> Array:
    """1 right of zero, 0 at and left of it."""
    return xp.astype(y > 0, y.dtype)


def leaky_relu(s: Array, xp: Any) -> Array:
    """`s` right of zero, a hundredth of it left of zero."""
    return xp.maximum(s, LEAK * s)


def leaky_relu_slope(s: Array, y: Array, xp: Any) -> Array:
    """1 right of zero, `LEAK` left of it."""
    return xp.where(y > 0, xp.ones_like(y), xp.full_like(y, LEAK))


def tanh(s: Array, xp: Any) -> Array:
    """Hyperbolic tangent."""
    return xp.tanh(s)


def tanh_slope(s: Array, y: Array, xp: Any) -> Array:
    """`1 - y^2`."""
    return 1.0 - y * y


def logistic(s: Array, xp: Any) -> Array:
    """`1 / (1 + exp(-s))`, in the form that cannot overflow."""
    return 0.5 + 0.5 * xp.tanh(0.5 * s)


def logistic_slope(s: Array, y: Array, xp: Any) -> Array:
    """`y (1 - y)`."""
    return y * (1.0 - y)


def gelu(s: Array, xp: Any) -> Array:
    """Gaussian error linear unit, tanh form."""
    return 0.5 * s * (1.0 + xp.tanh(GELU_SCALE * (s + GELU_CUBIC * s * s * s)))


def gelu_slope(s: Array, y: Array, xp: Any) -> Array:
    """By the product rule; the inner tanh is computed again rather than kept."""
    t = xp.tanh(GELU_SCALE * (s + GELU_CUBIC * s * s * s))
    return 0.5 * (1.0 + t) + 0.5 * s * (1.0 - t * t) * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * s * s)


def identity(s: Array, xp: Any) -> Array:
    """`s` itself: a linear layer."""
    return s


def identity_slope(s: Array, y: Array, xp: Any) -> Array:
    """1 everywhere."""
    return xp.ones_like(y)


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(relu, relu_slope, True),
    "leaky-relu": Activation(leaky_relu, leaky_relu_slope, True),
    "gelu": Activation(gelu, gelu_slope, False),
    "tanh": Activation(tanh, tanh_slope, False),
    "logistic": Activation(logistic, logistic_slope, False),
    "identity": Activation(identity, identity_slope, False),
}
