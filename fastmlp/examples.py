"""A part of the data set, kept where the training runs, and handed out batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.backend import Backend
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import DataError

Array = Any


class Examples:
    """Examples on the training's device.

    Bytes stay bytes: they are standardised as a batch is gathered, so 45,000 images take 138 MB instead of 553. Other
    data are standardised once, in double precision, and kept in the network's dtype.

    Parameters
    ----------
    x : ndarray (n, D)
        Examples as rows, as they were read.
    labels : ndarray (n,), int
        Class numbers.
    n_classes : int
        How many classes there are.
    standardizer : Standardizer
        Fitted on the training part.
    backend : Backend
        Where to keep them.
    dtype : {"float32", "float64"}, default "float32"
        Of the batches.
    sample_weight : ndarray (n,), optional
        Weight of each example in the mean loss; equal weights where it is absent. Only their ratios count.

    Raises
    ------
    DataError
        The labels are not one class number for each row, or the sample weights not one number >= 0 for each.

    Attributes
    ----------
    n : int
        Number of examples.
    data : array (n, D)
        On the device, bytes or the network's dtype.
    labels : array (n,)
        On the device.
    sample_weight : array (n,) or None
        On the device.
    """

    def __init__(self, x: npt.NDArray[Any], labels: npt.NDArray[Any], n_classes: int, standardizer: Standardizer,
                 backend: Backend, dtype: str = "float32", sample_weight: npt.NDArray[Any] | None = None) -> None:
        labels = np.asarray(labels)
        if labels.shape != x.shape[:1] or (labels.size and not 0 <= labels.min() <= labels.max() < n_classes):
            raise DataError(f"{len(x)} examples need as many labels from 0 to {n_classes - 1}; there are "
                            f"{labels.size}, from {labels.min(initial=0)} to {labels.max(initial=0)}")
        self.n, self.n_features = int(x.shape[0]), int(x.shape[1])
        self.backend, self.kernels, self.xp = backend, backend.kernels, backend.xp
        self.dtype, self.n_classes = np.dtype(dtype), n_classes
        as_bytes = x.dtype == np.uint8
        self.data = backend.asarray(x if as_bytes else standardizer.apply(x, self.dtype))
        standardise = as_bytes and bool(np.any(standardizer.mean != 0) or np.any(standardizer.std != 1))
        self._mean = backend.asarray(standardizer.mean.astype(self.dtype)) if standardise else None
        self._inv_std = backend.asarray((1.0 / standardizer.std).astype(self.dtype)) if standardise else None
        self.labels = backend.asarray(labels.astype(np.int64))
        self._one_hot = backend.asarray(np.eye(n_classes, dtype=self.dtype))            # (C, C)
        self.sample_weight = None
        if sample_weight is not None:
            weights = np.asarray(sample_weight, np.float64)
            if weights.shape != x.shape[:1] or not (np.isfinite(weights) & (weights >= 0)).all():
                raise DataError(f"{len(x)} examples need as many sample weights, finite and not negative")
            largest = float(weights.max(initial=0.0)) or 1.0    # before rounding: 1e-50 and 1e50 are no float32
            self.sample_weight = backend.asarray((weights / largest).astype(self.dtype))
        self._equals: dict[int, tuple[Array, Array]] = {}

    def buffers(self, n: int) -> tuple[Array, Array]:
        """New arrays for a batch of n: x (n, D) and targets (n, C)."""
        return (self.backend.zeros((n, self.n_features), self.dtype),
                self.backend.zeros((n, self._one_hot.shape[0]), self.dtype))

    def read(self, rows: Array, x: Array, targets: Array) -> None:
        """Gather the rows (N,): standardised examples -> x (N, D), one-hot labels -> targets (N, C)."""
        self.kernels.gather(self.data, rows, self._mean, self._inv_std, x)
        self.kernels.gather(self._one_hot, self.xp.take(self.labels, rows, axis=0), None, None, targets)

    def counts(self, rows: Array) -> Array:
        """How much each of the rows counts (N,): 1, or its sample weight (their ratios count, not their size)."""
        if self.sample_weight is not None:
            return self.xp.take(self.sample_weight, rows, axis=0)
        return self._equal(rows.shape[0])[0]

    def weights(self, rows: Array) -> Array:
        """Weights of the rows in their mean: (N,), summing to 1 (or all 0, if every sample weight among them is)."""
        if self.sample_weight is None:
            return self._equal(rows.shape[0])[1]
        counts = self.counts(rows)
        total = self.xp.sum(counts)
        return counts / self.xp.where(total > 0, total, self.xp.ones_like(total))

    def _equal(self, n: int) -> tuple[Array, Array]:
        """Counts and weights of n equal rows, made where they are used and kept."""
        if n not in self._equals:
            ones = self.backend.zeros((n,), self.dtype) + 1.0
            self._equals[n] = (ones, ones / n)
        return self._equals[n]
