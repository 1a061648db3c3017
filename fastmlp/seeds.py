"""One seed, several independent streams of random numbers."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream is for. The numbers begin at 1: NumPy's stream (seed, 0) is that of the bare seed."""

    WEIGHTS = 1
    ORDER = 2
    SPLIT = 3
    GRADIENT_CHECK = 4
    MEMBERS = 5
    SEARCH = 6


def generator(seed: int, stream: Stream) -> np.random.Generator:
    """The generator of one stream of a seed, always drawn on the host.

    Parameters
    ----------
    seed : int
        At least 0.
    stream : Stream
        What it is for; the streams of one seed have nothing in common.

    Examples
    --------
    >>> generator(0, Stream.WEIGHTS).random() != generator(0, Stream.ORDER).random()
    True
    """
    return np.random.default_rng((seed, int(stream)))
