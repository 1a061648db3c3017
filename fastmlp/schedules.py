"""Learning-rate schedules: pure functions from the update step to the rate.

Each takes the step (counted from 0, a number or an array of them) and returns the rate that this step uses. Rates may
be arrays too, one a member of a population, if the steps carry a trailing axis to broadcast against them. A rate is
never stored anywhere: it travels from here, as an argument, to the update and to the history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Rate = npt.NDArray[np.float64] | float
Steps = npt.ArrayLike
Schedule = Callable[[Any], npt.NDArray[np.float64]]


def constant(step: Steps, *, lr: Rate) -> npt.NDArray[np.float64]:
    """The same rate throughout.

    Examples
    --------
    >>> constant([0, 10], lr=0.5).tolist()
    [0.5, 0.5]
    """
    return np.asarray(lr, np.float64) + 0.0 * np.asarray(step, np.float64)


def cyclical(step: Steps, *, lr_min: Rate, lr_max: Rate, step_size: int) -> npt.NDArray[np.float64]:
    """Triangular cycles of `2 * step_size` steps: from lr_min up to lr_max and back (Smith 2015, section 3.2).

    Examples
    --------
    >>> cyclical([0, 5, 10, 15, 20], lr_min=0.0, lr_max=1.0, step_size=10).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    phase = np.asarray(step, np.float64) % (2 * step_size) / step_size      # 0 .. 2 over a cycle
    height = 1.0 - np.abs(1.0 - phase)                                      # 0 -> 1 -> 0
    return lr_min + (np.asarray(lr_max) - lr_min) * height


def one_cycle(step: Steps, *, lr_min: Rate, lr_max: Rate, total_steps: int,
              warm_up: float = 0.3) -> npt.NDArray[np.float64]:
    """One rise and one longer fall, both half cosines (Smith & Topin 2017).

    The rate begins at lr_max / 25, reaches lr_max after the fraction `warm_up` of the steps, and ends at lr_min.

    Examples
    --------
    >>> one_cycle([0, 30, 100], lr_min=0.0, lr_max=1.0, total_steps=100).round(6).tolist()
    [0.04, 1.0, 0.0]
    """
    progress = np.asarray(step, np.float64) / total_steps
    start = np.minimum(np.asarray(lr_max) / 25.0, lr_max)
    rise = _half_cosine(progress / warm_up, start, lr_max)
    fall = _half_cosine((progress - warm_up) / (1.0 - warm_up), lr_max, lr_min)
    return np.where(progress < warm_up, rise, fall)


def cosine(step: Steps, *, lr_min: Rate, lr_max: Rate, total_steps: int) -> npt.NDArray[np.float64]:
    """Half a cosine from lr_max down to lr_min (Loshchilov & Hutter 2017, without restarts).

    Examples
    --------
    >>> cosine([0, 50, 100], lr_min=0.0, lr_max=1.0, total_steps=100).round(6).tolist()
    [1.0, 0.5, 0.0]
    """
    return _half_cosine(np.asarray(step, np.float64) / total_steps, lr_max, lr_min)


def step_decay(step: Steps, *, lr: Rate, drop: float, every: int) -> npt.NDArray[np.float64]:
    """The rate is multiplied by `drop` after every `every` steps.

    Examples
    --------
    >>> step_decay([0, 9, 10, 20], lr=1.0, drop=0.5, every=10).tolist()
    [1.0, 1.0, 0.5, 0.25]
    """
    return np.asarray(lr, np.float64) * drop ** np.floor(np.asarray(step, np.float64) / every)


def linear_rise(step: Steps, *, lr_min: Rate, lr_max: Rate, total_steps: int) -> npt.NDArray[np.float64]:
    """From lr_min in the first step to lr_max in the last, by equal steps (Smith 2015, section 3.3).

    Examples
    --------
    >>> linear_rise([0, 5, 10], lr_min=0.0, lr_max=1.0, total_steps=11).tolist()
    [0.0, 0.5, 1.0]
    """
    progress = np.asarray(step, np.float64) / max(total_steps - 1, 1)
    return lr_min + (np.asarray(lr_max) - lr_min) * progress


def geometric_rise(step: Steps, *, lr_min: Rate, lr_max: Rate, total_steps: int) -> npt.NDArray[np.float64]:
    """From lr_min > 0 in the first step to lr_max in the last, by equal factors.

    Examples
    --------
    >>> geometric_rise([0, 5, 10], lr_min=0.01, lr_max=1.0, total_steps=11).round(6).tolist()
    [0.01, 0.1, 1.0]
    """
    progress = np.asarray(step, np.float64) / max(total_steps - 1, 1)
    return np.asarray(lr_min * (np.asarray(lr_max) / lr_min) ** progress)


def _half_cosine(progress: npt.NDArray[np.float64], first: Rate, last: Rate) -> npt.NDArray[np.float64]:
    """From `first` at progress 0 to `last` at 1, flat at both ends and beyond them."""
    weight = 0.5 * (1.0 + np.cos(np.pi * np.clip(progress, 0.0, 1.0)))
    return last + (np.asarray(first) - last) * weight
