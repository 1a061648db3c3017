"""What is random in dropout: a pure function of a key and a place, the same bits whoever computes it.

Nothing is stored and nothing but a key has to travel: the way back draws the same mask again. All numbers are unsigned,
of 32 bits, and wrap around. `c/layers.c` and `cuda/elementwise.cu` have the same function.
"""

from __future__ import annotations

from typing import Any

Array = Any


def mixed(numbers: Array) -> Array:
    """Each number as another one, one to one, in which every bit depends on every bit.

    "lowbias32", which C. Wellons found by search among functions of this form ("Prospecting for Hash Functions", 2018)
    as one where flipping any bit of the number flips each bit of the result with a probability very close to 1/2.
    """
    numbers = (numbers ^ (numbers >> 16)) * 0x7FEB352D
    numbers = (numbers ^ (numbers >> 15)) * 0x846CA68B
    return numbers ^ (numbers >> 16)


def drawn(keys: Array, rows: Array, units: Array) -> Array:
    """A number for every unit of every row, as if drawn by chance.

    keys (M,), rows (N,) = 0, 1, ..., units (H,) = 0, 1, ...  ->  (M, N, H), all uint32. Rows are mixed before a key is
    added, so that two keys have nothing in common, however close they are.
    """
    row = mixed(mixed(rows[:, None]) + keys[:, None, None])         # (M, N, 1)
    return mixed(row + units)


def threshold(rate: float) -> int:
    """The numbers below are a fraction `rate` of all, to within 2^-32.

    Examples
    --------
    >>> threshold(0.25) == 2**30
    True
    """
    return min(round(rate * 2**32), 2**32 - 1)
