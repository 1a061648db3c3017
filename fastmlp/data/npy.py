"""Read .npy files, without pickle and without trusting their headers; large ones stay on disk."""

from __future__ import annotations

import math
import tokenize
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.dataset import ExampleSet
from fastmlp.data.rows_on_disk import OpenFile, Rows, RowsOnDisk
from fastmlp.data.validate import as_numbers, check_text
from fastmlp.errors import DataError

Header = tuple[tuple[int, ...], bool, np.dtype[Any]]        # shape, whether in Fortran order, dtype


def read_npy(path: Path, target: str | None, *, memory: int, needs_target: bool) -> ExampleSet:
    """Read X from one file and the labels, where they are wanted, from another.

    Parameters
    ----------
    path : Path
        Of X: (n, D), or images (n, height, width) or (n, channels, height, width), which become rows.
    target : str or None
        The file of the labels (n,), which are always read into memory.
    memory : int
        X stays on disk if it takes more bytes than this. Bytes take their size; other numbers twice theirs, as they are
        kept standardised, too.
    needs_target : bool
        Whether the labels must be there.

    Returns
    -------
    ExampleSet
        What is on disk comes as RowsOnDisk.

    Raises
    ------
    DataError
        For files that cannot be read, are damaged or cut short, hold Python objects, or are of unsuitable shapes.

    Examples
    --------
    >>> read_npy(Path("X.npy"), "y.npy", memory=10**9, needs_target=True).x.shape  # doctest: +SKIP
    (1000000, 3072)
    """
    if target is None and needs_target:
        raise DataError(f"target is not given: name the .npy file that holds the labels of {path}")
    file, (shape, in_fortran_order, dtype), offset = _open(path)
    check_image_axes(shape, str(path))
    n_rows, n_columns = shape[0], math.prod(shape[1:])
    handed_out = handed_out_dtype(dtype, str(path))
    rows: Rows
    if taken_memory(n_rows * n_columns, handed_out) <= memory:
        x = _read_array(file, (shape, in_fortran_order, dtype), offset)
        rows = as_numbers(x, str(path)).reshape(n_rows, n_columns)
    elif in_fortran_order:
        raise DataError(f"{path} is in Fortran order, so that its rows cannot be read one by one, and takes more than "
                        f"the {memory:,} bytes that data may take: save numpy.ascontiguousarray(X) instead")
    else:
        rows = RowsOnDisk(file, offset, dtype, n_columns, np.arange(n_rows), handed_out, memory)
    labels = None if target is None else _read_labels(Path(target).expanduser(), path, n_rows)
    return ExampleSet(rows, labels, image_shape(shape))


def taken_memory(n_numbers: int, dtype: np.dtype[Any]) -> int:
    """Bytes that so many numbers take in a training."""
    return n_numbers * (1 if dtype == np.uint8 else 2 * dtype.itemsize)


def handed_out_dtype(dtype: np.dtype[Any], what: str) -> np.dtype[Any]:
    """uint8, float32 or float64: the smallest that holds whatever a file's dtype can hold (as well as float64 can)."""
    if dtype.kind in "iu" and dtype.itemsize > 2:
        return np.dtype(np.float64)
    return as_numbers(np.empty(0, dtype), what).dtype


def read_header(file: IO[bytes], where: str) -> Header:
    """The header of an array in .npy form, from where the file stands; ValueError if it is none."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:  # 3.0 is for records with fields, which have no place here
        raise DataError(f"{where} is of the .npy version {version}, which only structured arrays need")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # that Python 2 wrote it, that its type has an old name
            header: Header = readers[version](file)
    except (tokenize.TokenError, SyntaxError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
            MemoryError) as error:      # from the parser of its words, and from what NumPy makes of them
        raise ValueError("its header is damaged") from error
    return header


LARGEST = 1 << 59       # numbers in an array: beyond, NumPy cannot count the bytes


def check_size(header: Header, n_bytes: int, where: str) -> None:
    """Refuse arrays of Python objects, and those that are not as large as they claim."""
    shape, _, dtype = header
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which for safety are not read; save numbers or text")
    if dtype.subdtype is not None:      # whose axes would come after those of the shape
        raise DataError(f"{where} holds {dtype} in place of each number; save an array of numbers or text")
    whole = all(type(n) is int and n >= 0 for n in shape) and math.prod(max(n, 1) for n in shape) < LARGEST
    if not whole or math.prod(shape) * dtype.itemsize != n_bytes:
        raise DataError(f"{where} claims the shape {shape} of {dtype} but has {n_bytes} bytes")


def check_image_axes(shape: tuple[int, ...], where: str) -> None:
    """Refuse shapes that are neither rows nor images."""
    if len(shape) not in (2, 3, 4):
        raise DataError(f"{where} has the shape {shape}; it must be (n, D), (n, height, width) or "
                        "(n, channels, height, width)")


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(channels, height, width) where the shape says so; four axes do if the first after the rows can be colours."""
    if len(shape) == 3:
        return 1, shape[1], shape[2]
    if len(shape) == 4 and shape[1] in (1, 3):
        return shape[1], shape[2], shape[3]
    return None


def _open(path: Path) -> tuple[OpenFile, Header, int]:
    """The file, its header, and where the numbers begin."""
    try:
        file = path.open("rb", buffering=0)
        source = OpenFile(file, str(path))      # which will close it
        header = read_header(file, str(path))
        check_size(header, path.stat().st_size - file.tell(), str(path))
        return source, header, file.tell()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an .npy file: {error}") from error


def _read_array(file: OpenFile, header: Header, offset: int) -> npt.NDArray[Any]:
    shape, in_fortran_order, dtype = header
    array = np.empty(shape[::-1] if in_fortran_order else shape, dtype)
    if array.size:
        file.fill(array, offset)
    return array.T if in_fortran_order else array


def _read_labels(path: Path, of: Path, n_rows: int) -> npt.NDArray[Any]:
    if path.suffix.lower() != ".npy":
        raise DataError(f"target is {path}, but the labels of {of} must be in an .npy file, too")
    if not path.is_file():
        raise DataError(f"there is no file {path}, which should hold the labels of {of}")
    file, header, offset = _open(path)
    if header[0] != (n_rows,):
        raise DataError(f"{of} has {n_rows} rows, but the shape of its labels in {path} is {header[0]}, not "
                        f"({n_rows},)")
    labels = _read_array(file, header, offset)
    check_text(labels, str(path))
    return labels
