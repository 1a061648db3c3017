"""A part of the data set, kept where the training runs or brought there in pieces, and handed out batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.augmentation import Augmentation
from fastmlp.backend import Backend
from fastmlp.data.rows_on_disk import Rows, RowsOnDisk
from fastmlp.data.standardize import Standardizer
from fastmlp.data.validate import row_chunks
from fastmlp.errors import ConfigError, DataError
from fastmlp.shuffling import shuffle_blocks

Array = Any

KEEP = ("auto", "device", "host")
STAGE_BYTES = 64 << 20      # of streamed examples on the device at a time: some hundred batches of images
BRING_BYTES = 4 << 20       # of these, gathered or read and then copied at a time
BLOCK_BYTES = 256 << 10     # that are best read from disk together
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
    the device stay on the host, or on disk, and those that are next are brought over, some batches at a time; numbers
    on disk are standardised on the way. Images that are moved as they are read are kept as they came, whatever their
    type: a pixel is standardised where it comes to lie.

    Parameters
    ----------
    x : ndarray or RowsOnDisk (n, D)
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
    augmentation : Augmentation, optional
        How images are moved when they are delivered with moves; none are by default.

    Raises
    ------
    DataError
        The labels are not one class number for each row, or the sample weights not one number >= 0 for each.
    ConfigError
        `keep` is none of the three, or the augmentation is of images of another size.
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
        Whether the examples stay on the host, or on disk.
    on_disk : bool
        Whether it is there that they stay.
    rows_at_once : int
        How many rows `deliver` is best asked for at a time; for more, it makes room for them on the device.
    """

    def __init__(self, x: Rows, labels: npt.NDArray[Any], n_classes: int, standardizer: Standardizer,
                 backend: Backend, dtype: str = "float32", sample_weight: npt.NDArray[Any] | None = None,
                 keep: str = "auto", augmentation: Augmentation | None = None) -> None:
        if keep not in KEEP:
            raise ConfigError(f"keep = {keep!r} is unknown: choose one of {', '.join(KEEP)}")
        labels = np.asarray(labels)
        if labels.shape != x.shape[:1] or (labels.size and not 0 <= labels.min() <= labels.max() < n_classes):
            raise DataError(f"{len(x)} examples need as many labels from 0 to {n_classes - 1}; there are "
                            f"{labels.size}, from {labels.min(initial=0)} to {labels.max(initial=0)}")
        self.n, self.n_features, self.augmentation = int(x.shape[0]), int(x.shape[1]), augmentation
        if augmentation is not None and math.prod(augmentation.image_shape) != self.n_features:
            raise ConfigError(f"images of shape {augmentation.image_shape} do not have {self.n_features} numbers: give "
                              f"the augmentation the shape that these have")
        self.backend, self.kernels, self.xp = backend, backend.kernels, backend.xp
        self.dtype, self.n_classes = np.dtype(dtype), n_classes
        as_bytes = x.dtype == np.uint8
        as_read = standardizer if augmentation is None else Standardizer.fit(x, "none")
        data = x if as_bytes else _standardized(x, as_read, self.dtype)
        standardise = (as_bytes or as_read is not standardizer) and bool(
            np.any(standardizer.mean != 0) or np.any(standardizer.std != 1))
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
        self._bring_from: list[Any] = [data, labels.astype(np.int64), weights]
        free, from_disk = backend.free_bytes(), isinstance(x, RowsOnDisk)
        too_large = from_disk if free is None else data.nbytes > free // 2
        self.streams = too_large if free is None or keep == "auto" else keep == "host"
        self.on_disk = self.streams and from_disk
        self.rows_at_once, self._ones = self.n, dict[int, Array]()
        at_first = slice(0 if self.streams or from_disk else None)
        self._hold(None if array is None else backend.asarray(array[at_first]) for array in self._bring_from)
        if self.streams:
            stage = min(STAGE_BYTES, x.stage_bytes) if isinstance(x, RowsOnDisk) else STAGE_BYTES
            self.rows_at_once = max(1, min(self.n, stage // self._row_bytes))
            return
        if from_disk:
            self._bring(np.arange(self.make_room(self.n)))
        self._bring_from = []

    @property
    def _row_bytes(self) -> int:
        return self.n_features * int(self.data.dtype.itemsize)

    def new_batch(self, n: int) -> Batch:
        """Arrays for a batch of n; the weights of equal examples are in it already."""
        new = self.backend.zeros
        return Batch(new((n, self.n_features), self.dtype), new((n, self.n_classes), self.dtype),
                     new((n,), self.dtype) + 1.0 / n, self)

    def order(self, rng: np.random.Generator, lengths: Sequence[int]) -> npt.NDArray[np.int64]:
        """A new random order of the examples, to be delivered in these lengths: any, or on disk one that reads well."""
        if not self.on_disk:
            return rng.permutation(self.n)
        window = sum(next(iter(self._windows(lengths)), [self.n]))
        return shuffle_blocks(self.n, BLOCK_BYTES // self._row_bytes, window, rng)

    def moves(self, rng: np.random.Generator) -> npt.NDArray[np.int32] | None:
        """New random moves (3, n) for an order's examples, to be delivered with them; None without augmentation."""
        return None if self.augmentation is None else self.augmentation.draw(self.n, rng)

    def deliver(self, order: npt.NDArray[np.int64], lengths: Sequence[int],
                moves: npt.NDArray[np.int32] | None = None) -> Iterator[Array]:
        """Row numbers on the device for `read`: of the first of `order`, as many as `lengths` says, then of the next.

        They are (n,), or with moves (4, n): the row numbers, then each example's move. Each is valid until the next one
        is asked for. Kept examples cost one upload of the whole order, streamed ones that of the examples themselves.
        """
        windows, first = self._windows(lengths), 0
        if self.streams:
            self.make_room(max(map(sum, windows), default=0))
        uploaded: list[Callable[[], None]] = []
        for window in windows:
            here = slice(first, first + sum(window))
            chosen = order[here]
            first += len(chosen)
            if self.streams:
                if len(uploaded) == UPLOADS_AHEAD:      # the host's copies of what is under way take memory, too
                    uploaded.pop(0)()
                by_number = np.argsort(chosen)
                self._bring(chosen[by_number])
                chosen = np.argsort(by_number)          # where each of them is now
                uploaded.append(self.backend.milestone())
            with_moves = chosen if moves is None else np.concatenate([chosen[None, :], moves[:, here]])
            rows, start = self.backend.asarray(with_moves), 0
            for n in window:
                yield rows[..., start:start + n]
                start += n

    def _windows(self, lengths: Sequence[int]) -> list[Sequence[int]]:
        """The lengths, grouped as they are brought: all at once, one by one, or from disk as many as there is room for.

        Groups are of one size, but for the last, which is smaller by less than one length for each group.
        """
        if not self.streams:
            return [lengths]
        at_once = 1
        if self.on_disk and lengths:
            n_windows = -(-len(lengths) // max(1, self.rows_at_once // max(lengths)))
            at_once = -(-len(lengths) // n_windows)
        return [lengths[k:k + at_once] for k in range(0, len(lengths), at_once)]

    def make_room(self, n: int) -> int:
        """See to it that the device has arrays for n streamed examples; the number there is room for."""
        if n > self.data.shape[0]:
            self._hold(None if array is None else self.backend.zeros((n, *array.shape[1:]), array.dtype)
                       for array in self._bring_from)
        return int(self.data.shape[0])

    def _hold(self, arrays: Iterable[Array]) -> None:
        self.data, self.labels, self.sample_weight = arrays

    def _bring(self, chosen: npt.NDArray[np.int64]) -> None:
        """Copy the chosen examples, in ascending order, to the beginning of the device's arrays."""
        at_once = max(1, BRING_BYTES // self._row_bytes)
        for start in range(0, len(chosen), at_once):
            rows = chosen[start:start + at_once]
            for here, there in zip((self.data, self.labels, self.sample_weight), self._bring_from, strict=True):
                if there is not None:
                    here[start:start + len(rows), ...] = self.backend.asarray(there[rows])

    def read(self, rows: Array, batch: Batch) -> None:
        """Gather the rows (N,) into a batch of as many; with moves (4, N) as of `deliver` move images on the way."""
        if self.augmentation is not None and rows.ndim == 2:
            rows, moves = rows[0, :], rows[1:, :]
            self.kernels.gather_moved(self.data, self.labels, self._classes, rows, moves, self._mean, self._inv_std,
                                      batch.x, batch.targets, image_shape=self.augmentation.image_shape)
        else:
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


def _standardized(x: Rows, standardizer: Standardizer, dtype: np.dtype[Any]) -> Rows:
    """Numbers ready for the network: in memory at once, on disk as they are read."""
    if not isinstance(x, RowsOnDisk):
        return standardizer.apply(x, dtype)
    ready = x.converted(lambda rows, numbers: standardizer.apply(rows, dtype, numbers), dtype)
    if x.dtype.itemsize > dtype.itemsize:
        for part in row_chunks(*x.shape):       # what is too large is told now, not amid an epoch
            ready[part]
    return ready
