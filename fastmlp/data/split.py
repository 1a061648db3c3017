"""Set some examples aside: an exact number of them, from each class its share, and without a copy of the rest."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastmlp.data.rows_on_disk import Rows, RowsOnDisk
from fastmlp.errors import ConfigError, DataError

REORDERED_BYTES = 4 << 20  # copied at a time


def part_size(wanted: int | float, n_rows: int, option: str) -> int:
    """How many of `n_rows` examples an option asks for.

    Parameters
    ----------
    wanted : int or float
        An integer is a number of examples, a float in (0, 1) a fraction (of which at least one example comes), and
        0 is none.
    n_rows : int
        How many examples there are.
    option : str
        What messages call the option.

    Raises
    ------
    ConfigError
        For anything else.

    Examples
    --------
    >>> part_size(0.1, 150, "validation"), part_size(20, 150, "validation")
    (15, 20)
    """
    if wanted == 0 and not isinstance(wanted, bool):
        return 0
    if isinstance(wanted, (float, np.floating)):
        if 0.0 < wanted < 1.0:
            return max(1, round(n_rows * float(wanted)))
    elif not isinstance(wanted, bool):
        try:
            count = operator.index(wanted)
        except TypeError:
            count = 0
        if count >= 1:
            return count
    raise ConfigError(
        f"{option} is {wanted!r}; it must be a number of examples, a fraction between 0 and 1, or 0 for none"
    )


def stratified_split(
    codes: npt.NDArray[np.int64], size: int, rng: np.random.Generator, part: str = "validation"
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw exactly `size` rows, from each class its share, and leave each class at least one row.

    Shares are rounded by the method of largest remainders. A class with a single row is never drawn from: what is
    drawn is for measuring, and a class that was never seen in training could not be predicted.

    Parameters
    ----------
    codes : ndarray (n,), int64
        Class numbers.
    size : int
        How many rows to draw, 0 or more.
    rng : numpy.random.Generator
        Draws them.
    part : str
        What messages call the drawn part.

    Returns
    -------
    kept, drawn : ndarray (n - size,), ndarray (size,), int64
        Row numbers, ascending; together they are all rows.

    Raises
    ------
    DataError
        When so many rows were asked for that some class would keep none.

    Examples
    --------
    >>> kept, drawn = stratified_split(np.array([0, 0, 0, 0, 1, 1]), 3, np.random.default_rng(0))
    >>> np.bincount(np.array([0, 0, 0, 0, 1, 1])[drawn])
    array([2, 1])
    """
    counts = np.bincount(codes)  # (C,)
    shares = _shares(counts, size, part)  # (C,)
    order = np.argsort(codes, kind="stable")  # (n,)
    first_rows = np.cumsum(counts) - counts  # (C,)
    is_drawn = np.zeros(len(codes), bool)  # (n,)
    for first, count, share in zip(first_rows.tolist(), counts.tolist(), shares.tolist(), strict=True):
        rows = order[first : first + count]
        is_drawn[rng.permutation(rows)[:share]] = True
    return np.flatnonzero(~is_drawn), np.flatnonzero(is_drawn)


def check_folds(folds: int, n_rows: int) -> None:
    """Raise ConfigError unless so many folds can be made of the rows."""
    if not 2 <= folds <= n_rows:
        raise ConfigError(f"{folds} folds cannot be made of {n_rows} examples: choose from 2 to {n_rows}")


def assign_folds(codes: npt.NDArray[np.int64], folds: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Deal all rows to folds of equal size (give or take one), each class's rows evenly.

    Parameters
    ----------
    codes : ndarray (n,), int64
        Class numbers.
    folds : int
        How many.
    rng : numpy.random.Generator
        Draws which row goes where.

    Returns
    -------
    ndarray (n,), int64
        The fold of each row, from 0 on.

    Raises
    ------
    ConfigError
        There are fewer rows than folds, or fewer than 2 folds.

    Examples
    --------
    >>> fold = assign_folds(np.array([0, 0, 0, 0, 1, 1]), 2, np.random.default_rng(0))
    >>> np.bincount(fold), np.bincount(fold[4:])
    (array([3, 3]), array([1, 1]))
    """
    check_folds(folds, len(codes))
    shuffled = rng.permutation(len(codes))                              # (n,)
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]     # (n,) class by class, each in a random order
    fold = np.empty(len(codes), np.int64)
    fold[by_class] = np.arange(len(codes)) % folds
    return fold


def cut(x: Rows, parts: Sequence[npt.NDArray[np.int64]]) -> Sequence[Rows]:
    """Bring the rows of each part together, within x itself: there is not always memory for a second copy.

    Parameters
    ----------
    x : ndarray or RowsOnDisk (n, D)
        An array is reordered in place.
    parts : sequence of ndarray (k,), int64
        Row numbers, ascending in each; together they are all rows, each once.

    Returns
    -------
    list of ndarray or RowsOnDisk (k, D)
        The parts, which are views of x.

    Examples
    --------
    >>> [part.tolist() for part in cut(np.array([[1], [2], [3]]), [np.array([0, 2]), np.array([1])])]
    [[[1], [3]], [[2]]]
    """
    if isinstance(x, RowsOnDisk):
        return [x.part(rows) for rows in parts]
    order = np.concatenate(parts)  # (n,)
    step = max(1, REORDERED_BYTES // max(1, x.itemsize * len(x)))
    for first in range(0, x.shape[1], step):
        x[:, first : first + step] = x[order, first : first + step]
    return np.split(x, np.cumsum([len(part) for part in parts])[:-1])


def _shares(counts: npt.NDArray[np.int64], size: int, part: str) -> npt.NDArray[np.int64]:
    """How many rows each class gives: (C,), summing to `size`, each below the class's count (or zero)."""
    n_rows = int(counts.sum())
    room = np.maximum(counts - 1, 0)
    if size > room.sum():
        raise DataError(
            f"{size} of {n_rows} examples cannot be set aside for {part}: each of the {np.count_nonzero(counts)} "
            f"classes must keep one for training, so {int(room.sum())} is the most"
        )
    quota, remainder = np.divmod(counts * size, n_rows)
    shares = np.minimum(quota, room)
    by_remainder = np.argsort(-remainder, kind="stable")
    while (missing := size - int(shares.sum())) > 0:
        has_room = by_remainder[shares[by_remainder] < room[by_remainder]]
        shares[has_room[:missing]] += 1
    return shares
