"""Rows of numbers that stay in a file and are read as they are asked for."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastmlp.errors import DataError

PIECE_BYTES = 1 << 20       # read at a time: they stay in the processor's cache until they are copied on
GAP_BYTES = 1 << 14         # between wanted rows are read along rather than skipped: as fast, for fewer calls
PARTS_OF_MEMORY = 4         # a stage each for training, validation and test part; labels and row numbers

#: From rows as they are stored (k, D), and their numbers (k,), to the rows that are handed out (k, D).
Convert = Callable[[npt.NDArray[Any], npt.NDArray[np.int64]], npt.NDArray[Any]]


class OpenFile:
    """A file that is open for as long as someone may read from it.

    It is read, not mapped: pages of a mapped file count as memory of this process for as long as the system likes.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name, self._lock = file, name, threading.Lock()
        weakref.finalize(self, file.close)

    def fill(self, out: npt.NDArray[Any], offset: int) -> None:
        """Read a C-contiguous array's content from its place in the file."""
        view = memoryview(out.reshape(-1).view(np.uint8).data)
        try:
            while view:
                n_read = self._read(view, offset)
                if not n_read:
                    raise DataError(f"{self._name} has become shorter since it was opened: start again")
                view, offset = view[n_read:], offset + n_read
        except OSError as error:
            raise DataError(f"{self._name} cannot be read: {error.strerror}") from error

    def _read(self, view: memoryview, offset: int) -> int:
        """Fill the view or its beginning; the number of bytes. A forked process has the same position in the file."""
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [view], offset)
        with self._lock:                # Windows, which does not fork
            self._file.seek(offset)
            return int(self._file.readinto(view))       # type: ignore[attr-defined]  # binary files have it


@dataclass(frozen=True, eq=False)
class RowsOnDisk:
    """A matrix (n, D) in a file, or some of its rows, that reads like an array: `x[5:9]`, `x[[3, 1]]`.

    Attributes
    ----------
    file : OpenFile
    offset : int
        Where in the file row 0 begins; one row follows the other.
    stored : dtype
        Of the numbers in the file.
    n_columns : int
    numbers : ndarray (n,), int64
        Which of the file's rows these are, ascending.
    dtype : dtype
        Of the numbers that are handed out.
    memory : int
        Bytes of memory that the data were allowed to take.
    convert : callable or None
        What is done to rows as they are read.

    Examples
    --------
    >>> import tempfile
    >>> file = tempfile.TemporaryFile(buffering=0)
    >>> _ = file.write(np.arange(8, dtype=np.uint8))
    >>> x = RowsOnDisk(OpenFile(file, "example"), 0, np.dtype(np.uint8), 2, np.arange(4), np.dtype(np.uint8), 2)
    >>> x.part(np.array([0, 2, 3]))[1:].tolist()
    [[4, 5], [6, 7]]
    """

    file: OpenFile
    offset: int
    stored: np.dtype[Any]
    n_columns: int
    numbers: npt.NDArray[np.int64]
    dtype: np.dtype[Any]
    memory: int
    convert: Convert | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, D)."""
        return len(self.numbers), self.n_columns

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def nbytes(self) -> int:
        """Memory that all rows would take."""
        return len(self) * self.n_columns * self.dtype.itemsize

    @property
    def stage_bytes(self) -> int:
        """Memory that whoever reads these rows should take for them at a time."""
        return self.memory // PARTS_OF_MEMORY

    def part(self, rows: npt.NDArray[np.int64]) -> RowsOnDisk:
        """Some of the rows, by ascending number."""
        return replace(self, numbers=self.numbers[rows])

    def converted(self, convert: Convert, dtype: npt.DTypeLike) -> RowsOnDisk:
        """The same rows, with something else done to them as they are read."""
        return replace(self, convert=convert, dtype=np.dtype(dtype))

    def __getitem__(self, rows: slice | npt.ArrayLike) -> npt.NDArray[Any]:
        """Read rows, given as a slice or by numbers from 0 on: (k, D)."""
        wanted = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows, np.int64)
        order = np.argsort(wanted, kind="stable")
        result = np.empty((len(wanted), self.n_columns), self.dtype)
        self.read(wanted[order], result)
        if (order[1:] < order[:-1]).any():
            result[order] = result.copy()
        return result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """All rows in memory."""
        return np.asarray(self[:], dtype)

    def read(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Read rows (k,), in ascending order, into a C-contiguous out (k, D)."""
        if not len(rows):
            return
        numbers = self.numbers[rows]                                        # (k,)
        row_bytes = self.stored.itemsize * self.n_columns
        rows_at_once = max(1, PIECE_BYTES // row_bytes)
        steps = np.diff(numbers)                                            # (k - 1,)
        apart = (steps * row_bytes > GAP_BYTES) | (np.diff(numbers // rows_at_once) > 0)
        as_stored = self.convert is None and out.dtype == self.stored
        piece = np.empty((min(rows_at_once, int(numbers[-1] - numbers[0]) + 1), self.n_columns), self.stored)
        first = 0
        for end in [*(np.flatnonzero(apart) + 1).tolist(), len(numbers)]:
            here, whole = numbers[first:end], bool((steps[first:end - 1] == 1).all())
            place = self.offset + int(here[0]) * row_bytes
            if whole and as_stored:
                self.file.fill(out[first:end], place)
            else:
                read = piece[:here[-1] - here[0] + 1]
                self.file.fill(read, place)
                chosen = read if whole else read[here - here[0]]            # (end - first, D)
                out[first:end] = chosen if self.convert is None else self.convert(chosen, here)
            first = end


Rows = npt.NDArray[Any] | RowsOnDisk
