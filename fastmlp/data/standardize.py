"""Bring the inputs to a common scale with statistics of the training part only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from fastmlp.data.rows_on_disk import Rows
from fastmlp.data.validate import row_chunks
from fastmlp.errors import ConfigError, DataError

Standardization = Literal["feature", "scale", "none"]

# A deviation this small against the mean is what rounding leaves of a constant, not information.
_ROUNDING = 10 * np.finfo(np.float64).eps

# Where mean and deviation are below this, squares have lost digits or become zero.
_SMALL = 1e-140
_POWER = 2.0**600   # brings such columns, or its inverse those whose squares or sums are infinite, into the middle


@dataclass(frozen=True, eq=False)
class Standardizer:
    """What is subtracted from each input and what it is then divided by.

    Attributes
    ----------
    mean : ndarray (D,), float64
    std : ndarray (D,), float64
        Never zero: a constant column has 1, so that it becomes 0 in training.

    Examples
    --------
    >>> standardizer = Standardizer.fit(np.array([[1.0, 5.0], [3.0, 5.0]]), "feature")
    >>> standardizer.apply(np.array([[5.0, 5.0]]), np.float32)
    array([[3., 0.]], dtype=float32)
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, x: Rows, how: Standardization,
            weights: npt.NDArray[np.float64] | None = None) -> Standardizer:
        """Measure the training examples.

        Parameters
        ----------
        x : ndarray or RowsOnDisk (n, D), uint8, float32 or float64
            Training examples, without NaN or infinity.
        how : "feature", "scale" or "none"
            "feature" takes each column's mean and biased standard deviation (divided by n; of bytes at least 1, their
            resolution), "scale" divides everything by 255, and "none" changes nothing.
        weights : ndarray (n,), float64, above 0, optional
            Weight 2 counts as two equal rows; equal weights where it is absent.

        Raises
        ------
        ConfigError
            For another `how`.
        DataError
            For x without rows.
        """
        if how not in get_args(Standardization):
            raise ConfigError(f"standardize is {how!r}; it must be one of {', '.join(get_args(Standardization))}")
        n_columns = x.shape[1]
        if how == "none":
            return cls(np.zeros(n_columns), np.ones(n_columns))
        if how == "scale":
            return cls(np.zeros(n_columns), np.full(n_columns, 255.0))
        if len(x) == 0:
            raise DataError("there are no training examples to take mean and standard deviation of")
        return cls(*_mean_and_std(x, weights))

    def apply(self, x: npt.NDArray[Any], dtype: npt.DTypeLike,
              numbers: npt.NDArray[np.int64] | None = None) -> npt.NDArray[Any]:
        """Standardise: (x - mean) / std, computed in float64 and rounded once.

        Parameters
        ----------
        x : ndarray (n, D), uint8, float32 or float64
        dtype : float32 or float64
            Of the result.
        numbers : ndarray (n,), optional
            What a message calls the rows; by default they are counted from 0.

        Returns
        -------
        ndarray (n, D) of `dtype`

        Raises
        ------
        DataError
            For another number of columns, or a result that is NaN or too large for `dtype`.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise DataError(f"X has the shape {x.shape}, but {len(self.mean)} features (columns) are expected")
        result = np.empty(x.shape, dtype)  # (n, D)
        for part in row_chunks(*x.shape):
            with np.errstate(over="ignore", invalid="ignore"):  # reported below, by row and column
                chunk = x[part].astype(np.float64)  # (rows, D)
                chunk -= self.mean
                chunk /= self.std
                result[part] = chunk
            finite = np.isfinite(result[part])
            if not finite.all():
                row, column = np.argwhere(~finite)[0].tolist()
                number = part.start + row if numbers is None else numbers[part.start + row]
                raise DataError(
                    f"row {number}, column {column} of X is {x[part][row, column]!s}, which standardised "
                    f"(mean {self.mean[column]:g}, deviation {self.std[column]:g}) is no finite {result.dtype} number"
                )
        return result


def _mean_and_std(
    x: Rows, weights: npt.NDArray[np.float64] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean (D,) and biased standard deviation (D,), by weights (n,); of a constant column the latter is 1."""
    if weights is not None:
        weights = weights / weights.max()  # whose sum is finite
    with np.errstate(over="ignore", invalid="ignore"):  # what became infinite is measured again
        mean, std = _moments(x, weights)
    infinite = ~(np.isfinite(mean) & np.isfinite(std))
    lost = np.flatnonzero(infinite | ((np.abs(mean) < _SMALL) & (std < _SMALL)))
    if x.dtype == np.float64 and len(lost):
        factor = np.where(infinite[lost], 1 / _POWER, _POWER)
        mean[lost], std[lost] = _moments(x, weights, lost, factor) / factor
    std[std <= _ROUNDING * np.abs(mean)] = 1.0
    if x.dtype == np.uint8:
        # A byte resolves one grey level. Dividing by less would blow up the few odd pixels of an otherwise dark corner.
        np.maximum(std, 1.0, out=std)
    return mean, std


def _moments(
    x: Rows,
    weights: npt.NDArray[np.float64] | None,
    columns: npt.NDArray[np.intp] | None = None,
    factor: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.float64]:
    """Mean and biased standard deviation of x, or of some columns (C,) times factor (C,): (2, D) or (2, C).

    In two passes over chunks of rows. The second measures deviations from the first one's mean, and their own mean,
    which would be zero without rounding, corrects both results (Chan, Golub and LeVeque 1983). So 1e9 +- 1 loses
    nothing to cancellation.
    """

    def chunks() -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        for part in row_chunks(*x.shape):
            yield part, x[part] if columns is None else x[part][:, columns] * factor

    total = len(x) if weights is None else weights.sum()
    mean, deviation_sum, square_sum = np.zeros((3, x.shape[1] if columns is None else len(columns)))  # (C,) each
    for part, chunk in chunks():
        mean += chunk.sum(axis=0, dtype=np.float64) if weights is None else weights[part] @ chunk
    mean /= total
    for part, chunk in chunks():
        deviation = chunk - mean  # (rows, C), float64 as mean is
        weighted = deviation if weights is None else weights[part, None] * deviation
        deviation_sum += weighted.sum(axis=0)
        square_sum += np.einsum("nd,nd->d", weighted, deviation)
    correction = deviation_sum / total  # (C,)
    return np.stack([mean + correction, np.sqrt(np.maximum(square_sum / total - correction**2, 0.0))])
