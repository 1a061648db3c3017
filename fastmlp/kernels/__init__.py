"""The kernel contract and its makers.

`reference` holds every operation of a training step in plain array code. A maker (`compiled` and `numpy_inplace` for
NumPy's arrays, `cupy_fused` for CuPy's) offers faster versions of some; `bind` puts the two together.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from fastmlp.kernels import chains, reference

#: The operations of a training step, in order of use; `reference` documents them.
CONTRACT = (
    "gather", "gather_moved", "batch_weights", "linear", "batch_norm_activation", "activation", "dropout",
    "cross_entropy", "hinge", "activation_backward", "batch_norm_activation_backward",
    "linear_backward", "moving_average", "sgd", "adam", "count_correct",
)

#: Joined operations, which `chains` puts together where a maker does not do them at once.
CHAINS = (
    "linear_activation", "linear_batch_norm_activation", "linear_backward_activation_backward",
    "linear_backward_batch_norm_activation_backward",
)

PRECISIONS = ("float32", "tf32")


def bind(xp: Any, maker: Any = None) -> SimpleNamespace:
    """All operations of `CONTRACT` and `CHAINS` for one backend.

    Parameters
    ----------
    xp : module
        The array library that the reference's operations shall use.
    maker : object, optional
        Offers faster versions of some; without one the reference computes.

    Returns
    -------
    SimpleNamespace
        One attribute an operation, called without `xp`; and `record`, which turns a function of operations into one
        that does the same in a single call, or None where the maker does not offer it.

    Examples
    --------
    >>> import numpy as np
    >>> kernels = bind(np)
    >>> y = np.empty((1, 1, 2))
    >>> kernels.activation(np.array([[[-1.0, 2.0]]]), y, kind="relu")
    >>> y.tolist()
    [[[0.0, 2.0]]]
    """
    kernels = SimpleNamespace(record=getattr(maker, "record", None))
    for operation in CONTRACT:
        plain = partial(getattr(reference, operation), xp=xp)
        setattr(kernels, operation, getattr(maker, operation, None) or plain)
    for chain in CHAINS:
        setattr(kernels, chain, getattr(maker, chain, None) or partial(getattr(chains, chain), kernels))
    return kernels
