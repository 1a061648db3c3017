"""Dropout and label smoothing, which only training knows of: what they suit, and the keys of what is dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.errors import ConfigError
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

    Examples
    --------
    >>> Dropout(0.2, seeds=[0, 1]).keys(steps=3, layers=2).shape
    (3, 2, 2)
    """

    def __init__(self, rate: float, seeds: Sequence[int]) -> None:
        self.rate = rate
        self._generators = [generator(seed, Stream.DROPOUT) for seed in seeds]

    @property
    def members(self) -> int:
        """How many members it is for."""
        return len(self._generators)

    def keys(self, steps: int, layers: int) -> npt.NDArray[np.uint32]:
        """Keys for the next steps, (steps, layers, M)."""
        return np.stack([one.integers(2**32, size=(steps, layers), dtype=np.uint32) for one in self._generators],
                        axis=-1)


def check_suits(hidden: Sequence[int], loss: str, dropout: float, label_smoothing: float,
                named: Callable[[str], str] = "{} =".format) -> None:
    """Refuse what cannot be, or would have no meaning for such a network; `named` is how an option is called.

    Raises
    ------
    ConfigError
        One of them is not from 0 to below 1; dropout without hidden layers; label smoothing of the hinge loss.
    """
    for name, value in (("dropout", dropout), ("label_smoothing", label_smoothing)):
        if not 0 <= value < 1:
            raise ConfigError(f"{named(name)} {value} must be at least 0 and below 1")
    if dropout and not hidden:
        raise ConfigError(f"{named('dropout')} {dropout} drops units of hidden layers, and there are none: leave it "
                          f"out, or ask for hidden layers")
    if label_smoothing and loss != "cross-entropy":
        raise ConfigError(f"{named('label_smoothing')} {label_smoothing} belongs to the loss cross-entropy, not to "
                          f"{loss}: leave it out")
