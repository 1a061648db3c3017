"""Initial weights: a standard deviation for each layer, and normal numbers drawn member by member.

Biases and beta begin at 0, gamma at 1. The numbers depend on the member's seed and the network's sizes alone: not on
the batch size, the dtype (they are drawn in float64), the device, or on how many members are trained at once.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fastmlp.errors import ConfigError
from fastmlp.seeds import Stream, generator

INITIALIZERS = ("he", "xavier", "normal")


def standard_deviation(kind: str, n_inputs: int, init_std: float) -> float:
    """Standard deviation of a layer's weights.

    Parameters
    ----------
    kind : {"he", "xavier", "normal"}
        `he`: sqrt(2 / n_inputs) (He et al. 2015); `xavier`: 1 / sqrt(n_inputs) (Glorot & Bengio 2010, counting the
        inputs only); `normal`: `init_std` for every layer.
    n_inputs : int
        Inputs of the layer.
    init_std : float
        Used by `normal` alone.

    Examples
    --------
    >>> standard_deviation("xavier", 100, 0.01)
    0.1
    """
    if kind == "he":
        return math.sqrt(2.0 / n_inputs)
    if kind == "xavier":
        return 1.0 / math.sqrt(n_inputs)
    if kind == "normal":
        return init_std
    raise ConfigError(f"init = {kind!r} is not known: choose one of {', '.join(INITIALIZERS)}")


def draw_weights(seed: int, sizes: tuple[int, ...], kind: str, init_std: float) -> list[npt.NDArray[np.float64]]:
    """All weight matrices of one network, from the first layer to the last.

    Parameters
    ----------
    seed : int
        The member's seed.
    sizes : tuple of int
        Inputs, hidden widths, classes.
    kind, init_std
        See `standard_deviation`.

    Returns
    -------
    list of ndarray (D_l, H_l), float64

    Examples
    --------
    >>> [w.shape for w in draw_weights(0, (4, 3, 2), "he", 0.01)]
    [(4, 3), (3, 2)]
    """
    rng = generator(seed, Stream.WEIGHTS)
    return [
        standard_deviation(kind, n_in, init_std) * rng.standard_normal((n_in, n_out))
        for n_in, n_out in pairwise(sizes)
    ]
