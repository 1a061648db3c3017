"""A part of the data set, kept where the training runs or streamed to it, and handed out batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.backend import Backend
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError, DataError

Array = Any

KEEP = ("auto", "device", "host")
STAGE_BYTES = 64 << 20      # of streamed examples on the device at a time: some hundred batches of images
UPLOADS_AHEAD = 2           # of what the device is busy with


@dataclass(frozen=True)
class Batch:
    """The arrays of a batch of n examples: x (n, D), one-hot targets (n, C), weights (n,) that sum to 1.

    Or are all 0, if every sample weight among them is.
    """

    x: Array
    targets: Array
    weights: Array
    source: Examples


class Examples:
    """Examples on the training's device.

    Bytes stay bytes: they are standardised as a batch is gathered, so 45,000 images take 138 MB instead of 553. Other
    data are standardised once, in double precision, and kept in the network's dtype. Examples that are too many for
    the device stay on the host, and those that are next are brought over, some batches at a time.

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
    keep : {"auto", "device", "host"}, default "auto"
        Where the data stay; "auto" keeps them on the device if they take at most half of its free memory.

    Raises
    ------
    DataError
        The labels are not one class number for each row, or the sample weights not one number >= 0 for each.
    ConfigError
        `keep` is none of the three.
    DeviceError
        The device's memory does not suffice.

    Attributes
    ----------
    n : int
        Number of examples.
    data : array (n, D)
        On the device, bytes or the network's dtype; of streamed examples those at hand.
    labels : array (n,)
        Likewise.
    sample_weight : array (n,) or None
        Likewise.
    streams : bool
        Whether the examples stay on the host.
    rows_at_once : int
        How many rows `deliver` is best asked for at a time; for more, it makes room for them on the device.
    """

    def __init__(self, x: npt.NDArray[Any], labels: npt.NDArray[Any], n_classes: int, standardizer: Standardizer,
                 backend: Backend, dtype: str = "float32", sample_weight: npt.NDArray[Any] | None = None,
                 keep: str = "auto") -> None:
        if keep not in KEEP:
            raise ConfigError(f"keep = {keep!r} is unknown: choose one of {', '.join(KEEP)}")
        labels = np.asarray(labels)
        if labels.shape != x.shape[:1] or (labels.size and not 0 <= labels.min() <= labels.max() < n_classes):
            raise DataError(f"{len(x)} examples need as many labels from 0 to {n_classes - 1}; there are "
                            f"{labels.size}, from {labels.min(initial=0)} to {labels.max(initial=0)}")
        self.n, self.n_features = int(x.shape[0]), int(x.shape[1])
        self.backend, self.kernels, self.xp = backend, backend.kernels, backend.xp
        self.dtype, self.n_classes = np.dtype(dtype), n_classes
        as_bytes = x.dtype == np.uint8
        data = x if as_bytes else standardizer.apply(x, self.dtype)
        standardise = as_bytes and bool(np.any(standardizer.mean != 0) or np.any(standardizer.std != 1))
        self._mean = backend.asarray(standardizer.mean.astype(self.dtype)) if standardise else None
        self._inv_std = backend.asarray((1.0 / standardizer.std).astype(self.dtype)) if standardise else None
        self._classes = backend.asarray(np.arange(n_classes))                           # (C,)
        weights = None
        if sample_weight is not None:
            given = np.asarray(sample_weight, np.float64)
            if given.shape != x.shape[:1] or not (np.isfinite(given) & (given >= 0)).all():
                raise DataError(f"{len(x)} examples need as many sample weights, finite and not negative")
            largest = float(given.max(initial=0.0)) or 1.0      # before rounding: 1e-50 and 1e50 are no float32
            weights = (given / largest).astype(self.dtype)
        free = backend.free_bytes()
        self.streams = free is not None and (keep == "host" or (keep == "auto" and data.nbytes > free // 2))
        whole: list[Array] = [data, labels.astype(np.int64), weights]
        self._on_host = whole if self.streams else []
        self.rows_at_once = self.n
        if self.streams:
            self.rows_at_once = max(1, min(self.n, STAGE_BYTES // (data.itemsize * self.n_features)))
            whole = [None if array is None else array[:0] for array in whole]
        self._hold(None if array is None else backend.asarray(array) for array in whole)
        self._ones: dict[int, Array] = {}

    def new_batch(self, n: int) -> Batch:
        """Arrays for a batch of n; the weights of equal examples are in it already."""
        new = self.backend.zeros
        return Batch(new((n, self.n_features), self.dtype), new((n, self.n_classes), self.dtype),
                     new((n,), self.dtype) + 1.0 / n, self)

    def deliver(self, order: npt.NDArray[np.int64], lengths: Sequence[int]) -> Iterator[Array]:
        """Row numbers on the device for `read`: of the first of `order`, as many as `lengths` says, then of the next.

        Each is valid until the next one is asked for. Kept examples cost one upload of the whole order, streamed ones
        that of the examples themselves.
        """
        if not self.streams:
            rows, start = self.backend.asarray(order), 0
            for n in lengths:
                yield rows[start:start + n]
                start += n
            return
        rows, start = self.backend.asarray(np.arange(self.make_room(max(lengths, default=0)))), 0
        uploaded: list[Callable[[], None]] = []
        for n in lengths:
            if len(uploaded) == UPLOADS_AHEAD:          # the host's copies of what is under way take memory, too
                uploaded.pop(0)()
            self._bring(order[start:start + n])
            uploaded.append(self.backend.milestone())
            yield rows[:n]
            start += n

    def make_room(self, n: int) -> int:
        """See to it that the device has arrays for n streamed examples; the number there is room for."""
        if n > self.data.shape[0]:
            self._hold(None if array is None else self.backend.zeros((n, *array.shape[1:]), array.dtype)
                       for array in self._on_host)
        return int(self.data.shape[0])

    def _hold(self, arrays: Iterable[Array]) -> None:
        self.data, self.labels, self.sample_weight = arrays

    def _bring(self, chosen: npt.NDArray[np.int64]) -> None:
        """Copy the chosen examples from the host to the beginning of the device's arrays."""
        for here, there in zip((self.data, self.labels, self.sample_weight), self._on_host, strict=True):
            if there is not None:
                here[:len(chosen), ...] = self.backend.asarray(there[chosen])

    def read(self, rows: Array, batch: Batch) -> None:
        """Gather the rows (N,) into a batch of as many."""
        self.kernels.gather(self.data, self.labels, self._classes, rows, self._mean, self._inv_std, batch.x,
                            batch.targets)
        if self.sample_weight is not None:
            self.kernels.batch_weights(self.sample_weight, rows, batch.weights)

    def counts(self, rows: Array) -> Array:
        """How much each of the rows counts (N,): 1, or its sample weight (their ratios count, not their size)."""
        if self.sample_weight is not None:
            return self.xp.take(self.sample_weight, rows, axis=0)
        n = rows.shape[0]
        if n not in self._ones:
            self._ones[n] = self.backend.zeros((n,), self.dtype) + 1.0
        return self._ones[n]
