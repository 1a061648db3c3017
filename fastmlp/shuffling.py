"""A random order of rows that are best read many at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCKS_IN_WINDOW = 64       # at least: so many places of the file each window's rows come from


def shuffle_blocks(n: int, block: int, window: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """An order of n rows in which each window of rows consists of a few blocks of rows that lie together.

    The rows are divided into stretches of as many blocks as there are windows, and each window gets one block of each
    stretch, drawn at random: so each has its share of every region of a file that is sorted, by class or by time.
    Within a window all rows are shuffled.

    Parameters
    ----------
    n : int
        How many rows.
    block : int
        Rows that should be read together; fewer are where windows are small.
    window : int
        Rows that are in memory at a time; each `window` rows of the order are a window.
    rng : numpy.random.Generator
        Draws the order.

    Returns
    -------
    ndarray (n,), int64
        Row numbers, each once.

    Examples
    --------
    >>> order = shuffle_blocks(1000, 5, 500, np.random.default_rng(0))
    >>> np.sort(order).tolist() == list(range(1000)), len(set(order[:500] // 5))
    (True, 100)
    """
    block, window = max(1, min(block, window // BLOCKS_IN_WINDOW)), min(window, n)
    numbers = np.arange(-(-n // block))                                             # (blocks,)
    stretch_of = numbers * window // n
    drawn = np.lexsort((rng.random(len(numbers)), stretch_of))      # the blocks, shuffled within each stretch ...
    window_of = numbers - np.searchsorted(stretch_of, stretch_of)                   # ... and the window of each
    # In any order within a window: a cut through its last block must not favour a place of the file.
    blocks = drawn[np.lexsort((rng.random(len(numbers)), window_of))]
    order: npt.NDArray[np.int64] = (block * blocks[:, None] + np.arange(block)).reshape(-1)
    order = order[order < n]
    for first in range(0, n, window):
        rng.shuffle(order[first:first + window])
    return order
