"""Parquet files that take more memory than they may: their numbers go, batch by batch, into a file of rows."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.dataset import ExampleSet
from fastmlp.data.npy import handed_out_dtype
from fastmlp.data.rows_on_disk import OpenFile, RowsOnDisk
from fastmlp.data.tables import (
    as_matrix,
    check_complete,
    choose_inputs,
    label_values,
    opened_parquet,
    type_width,
    wanted_columns,
)
from fastmlp.errors import DataError

BATCH_BYTES = 8 << 20       # of a batch's matrix in float64; what Arrow and the columns take comes on top
BUFFER_BYTES = 1 << 13      # of a column that is being read; there may be thousands
LARGE_TEMPORARY = Path("/var/tmp")      # /tmp often lies in memory


def takes_more(path: Path, memory: int) -> bool:
    """Whether reading a Parquet file takes more bytes of memory than this: its columns and, beside them, the matrix.

    What is no Parquet file takes none; who reads it will say so.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return False
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError, ArrowException):
        return False
    with file:
        types = [field.type for field in file.schema_arrow]
        widths = sum(type_width(kind) for kind in types)
        n_rows: int = file.metadata.num_rows
        return n_rows * (widths + len(types) * _matrix_dtype(types).itemsize) > memory


def read_parquet_to_disk(path: Path, target: str | None, *, memory: int, needs_target: bool = False,
                         columns: Sequence[str] | None = None) -> ExampleSet:
    """Read a Parquet file into a temporary file that vanishes with the process; its labels into memory.

    The temporary file lies in $TMPDIR, or else in /var/tmp.

    Parameters
    ----------
    path, target, needs_target, columns
        As in `read_table`.
    memory : int
        Bytes that the data may take.

    Returns
    -------
    ExampleSet
        As from `read_table`, with RowsOnDisk of uint8, float32 or, where a column has more than 24 bits, float64.

    Raises
    ------
    DataError
        As from `read_table`, and when the disk has not enough room.

    Examples
    --------
    >>> read_parquet_to_disk(Path("irises.parquet"), "species", memory=10**6).x.shape  # doctest: +SKIP
    (150, 4)
    """
    from pyarrow import default_memory_pool

    choose = partial(choose_inputs, path=path, target=target, needs_target=needs_target, columns=columns)
    with opened_parquet(path, choose, target, buffer_size=BUFFER_BYTES, pre_buffer=False) as (file, inputs):
        dtype = _matrix_dtype([file.schema_arrow.field(name).type for name in inputs])
        n_rows = file.metadata.num_rows
        rows = _temporary_file(path, n_rows * len(inputs) * dtype.itemsize, memory)
        source, labels, first_row = OpenFile(rows, f"the temporary file of {path}"), [], 0     # which will close it
        rows_at_once = max(1, BATCH_BYTES // (8 * len(inputs)))
        wanted = wanted_columns(inputs, target)
        for batch in file.iter_batches(rows_at_once, columns=wanted, use_threads=False):        # they read ahead
            if target is not None:
                labels.append(_labels(batch.column(target), target, path, first_row))
            _write(rows, _matrix(batch.select(inputs), dtype, path, first_row), path)
            first_row += batch.num_rows
        rows.flush()
    default_memory_pool().release_unused()      # Arrow would keep the memory of all these batches
    x = RowsOnDisk(source, 0, dtype, len(inputs), np.arange(first_row), dtype, memory)
    return ExampleSet(x, np.concatenate(labels) if labels else None, feature_names=tuple(inputs))


def _matrix_dtype(kinds: Sequence[Any]) -> np.dtype[Any]:
    """uint8, float32 or float64, whichever holds the columns' Arrow types; what is no number is refused later."""
    numeric = [handed_out_dtype(np.dtype(kind.to_pandas_dtype()), "X") for kind in kinds if _is_number(kind)]
    return np.result_type(*numeric) if numeric else np.dtype(np.float64)


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _labels(column: Any, target: str, path: Path, first_row: int) -> npt.NDArray[Any]:
    """Labels (n,) of an Arrow array."""
    series = column.to_pandas()
    series.name = target
    check_complete(series, path, first_row)
    return label_values(series)


def _matrix(batch: Any, dtype: np.dtype[Any], path: Path, first_row: int) -> npt.NDArray[Any]:
    """A batch's columns as a matrix (n, D)."""
    if all(_is_number(column.type) and column.null_count == 0 for column in batch.columns):
        matrix = np.empty((batch.num_rows, batch.num_columns), dtype)
        for number, column in enumerate(batch.columns):
            matrix[:, number] = column.to_numpy(zero_copy_only=False)
        if dtype == np.uint8 or not np.isnan(matrix).any():
            return matrix
    # This one says what is missing or text.
    frame = batch.to_pandas(ignore_metadata=True)
    return as_matrix(frame, batch.schema.names, path, first_row).astype(dtype, copy=False)


def _temporary_file(path: Path, n_bytes: int, memory: int) -> IO[bytes]:
    """A file without a name, in a folder that has so much room."""
    folder = os.environ.get("TMPDIR") or (LARGE_TEMPORARY if os.access(LARGE_TEMPORARY, os.W_OK) else
                                          tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise DataError(f"{path} takes more than the {memory:,} bytes of memory that data may take, and there is no "
                        f"room for its numbers in {folder}: {n_bytes:,} bytes are needed and {free:,} are free; set "
                        f"TMPDIR to a folder with more")
    return tempfile.TemporaryFile(dir=folder)


def _write(file: IO[bytes], matrix: npt.NDArray[Any], path: Path) -> None:
    try:
        file.write(matrix.data)
    except OSError as error:
        raise DataError(f"the temporary file for the numbers of {path} cannot be written: {error.strerror}; set TMPDIR "
                        f"to a folder with more room") from error
