"""The kernel contract and its makers.

`reference` holds every operation of a training step in plain array code. A maker (`numpy_inplace` for NumPy,
`cupy_fused` for CuPy) offers faster versions of some; `bind` puts the two together for one array library.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from fastmlp.kernels import chains, numpy_inplace, reference
from fastmlp.kernels.cupy_fused import FusedKernels

#: The operations of a training step, in order of use; `reference` documents them.
CONTRACT = (
    "gather", "batch_weights", "linear", "batch_norm_activation", "activation", "cross_entropy",
    "hinge", "activation_backward", "batch_norm_activation_backward",
    "linear_backward", "moving_average", "sgd", "adam", "count_correct",
)

#: Joined operations, which `chains` puts together where a maker does not do them at once.
CHAINS = (
    "linear_activation", "linear_batch_norm_activation", "linear_backward_activation_backward",
    "linear_backward_batch_norm_activation_backward",
)

#: For each backend what makes its faster operations, given its array library.
MAKERS: dict[str, Callable[[Any, str], Any]] = {"cpu": lambda _xp, _precision: numpy_inplace, "gpu": FusedKernels}
PRECISIONS = ("float32", "tf32")


def bind(name: str, xp: Any, precision: str = "float32") -> SimpleNamespace:
    """All operations of `CONTRACT` and `CHAINS` for one backend.

    Parameters
    ----------
    name : str
        The backend, "cpu" or "gpu"; a backend without a maker of its own runs the reference.
    xp : module
        The array library that the reference's operations shall use.
    precision : {"float32", "tf32"}, default "float32"
        How a GPU multiplies float32 numbers in large products; elsewhere it has no meaning.

    Returns
    -------
    SimpleNamespace
        One attribute an operation, called without `xp`.

    Examples
    --------
    >>> import numpy as np
    >>> kernels = bind("cpu", np)
    >>> y = np.empty((1, 1, 2))
    >>> kernels.activation(np.array([[[-1.0, 2.0]]]), y, kind="relu")
    >>> y.tolist()
    [[[0.0, 2.0]]]
    """
    maker = MAKERS[name](xp, precision) if name in MAKERS else None
    kernels = SimpleNamespace()
    for operation in CONTRACT:
        plain = partial(getattr(reference, operation), xp=xp)
        setattr(kernels, operation, getattr(maker, operation, None) or plain)
    for chain in CHAINS:
        setattr(kernels, chain, getattr(maker, chain, None) or partial(getattr(chains, chain), kernels))
    return kernels
