"""Dropout, which only training knows of: its rate and its random keys. `kernels.masks` says what a key drops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.seeds import Stream, generator

Array = Any


class Masks(NamedTuple):
    """What is dropped in one step: the fraction `rate` of each hidden layer, chosen by `keys` (layers, M), uint32."""

    rate: float
    keys: Array


class Dropout:
    """Dropout during a training: its rate, and for every step keys from each member's own seed.

    Parameters
    ----------
    rate : float
        Fraction of each hidden layer's units that is dropped at random for each example, at least 0 and below 1; those
        that are kept are divided by 1 - rate (Srivastava et al. 2014).
    seeds : sequence of int
        One a member.

    Attributes
    ----------
    generators : list of numpy.random.Generator
        One a member; they draw the keys.

    Examples
    --------
    >>> Dropout(0.2, seeds=[0, 1]).keys(steps=3, layers=2).shape
    (3, 2, 2)
    """

    def __init__(self, rate: float, seeds: Sequence[int]) -> None:
        self.rate = rate
        self.generators = [generator(seed, Stream.DROPOUT) for seed in seeds]

    @property
    def members(self) -> int:
        """How many members it is for."""
        return len(self.generators)

    def keys(self, steps: int, layers: int) -> npt.NDArray[np.uint32]:
        """Keys for the next steps, (steps, layers, M)."""
        return np.stack([one.integers(2**32, size=(steps, layers), dtype=np.uint32) for one in self.generators],
                        axis=-1)
