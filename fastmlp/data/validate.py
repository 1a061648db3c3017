"""The checks that every reader and the estimator share, each written once.

Rows and columns in messages are counted from 0, as NumPy and pandas count them.
"""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.rows_on_disk import Rows
from fastmlp.errors import DataError

CHUNK_BYTES = 4 << 20
FLOAT32_EXACT = 2**24  # float32 holds every integer up to here
# What becomes more than 256 MiB and 100 times the file is taken for a bomb. Zeros grow 1000-fold, so small files may.
UNSUSPECTED_BYTES = 1 << 28
LARGEST_EXPANSION = 100


def check_expansion(n_bytes: int, file_bytes: int, where: str) -> None:
    """Refuse a file that claims to become so many bytes in memory that no honest one would.

    Examples
    --------
    >>> check_expansion(10**12, 10**6, "bomb.npz")      # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    fastmlp.errors.DataError: bomb.npz claims 1,000,000,000,000 bytes out of 1,000,000, further than data shrink: if ...
    """
    if n_bytes > max(UNSUSPECTED_BYTES, LARGEST_EXPANSION * file_bytes):
        raise DataError(f"{where} claims {n_bytes:,} bytes out of {file_bytes:,}, further than data shrink: if you "
                        f"trust it, save it anew without compression, such as in .npy files")


def row_chunks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Slices that walk over the rows so that a float64 copy of one slice is about 4 MiB.

    Examples
    --------
    >>> [(part.start, part.stop) for part in row_chunks(5, 200_000)]
    [(0, 2), (2, 4), (4, 5)]
    """
    step = max(1, CHUNK_BYTES // (8 * max(1, n_columns)))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def name_column(column: int, feature_names: tuple[str, ...] | None = None) -> str:
    """How a message calls a column: by its number, and by its name where it has one."""
    return f"column {column}" if feature_names is None else f"column {feature_names[column]!r}"


def as_numbers(x: npt.NDArray[Any], what: str = "X") -> npt.NDArray[Any]:
    """Bring numbers of any dtype to the smallest of uint8, float32 and float64 that holds them exactly.

    uint8, float32 and float64 stay what they are. float16 and bool become float32, as do integers whose magnitude is
    at most 2**24; larger integers become the nearest float64.

    Parameters
    ----------
    x : ndarray of any shape
    what : str
        What the message calls the array.

    Returns
    -------
    ndarray of x's shape, C-contiguous, in the machine's byte order; `x` itself where nothing had to change

    Raises
    ------
    DataError
        For any other dtype: text, dates, complex or long double numbers, objects.

    Examples
    --------
    >>> as_numbers(np.array([[1, 2**24 + 1]])).dtype
    dtype('float64')
    """
    dtype = x.dtype.newbyteorder("=")
    if dtype in (np.uint8, np.float32, np.float64):
        target = dtype
    elif dtype.kind == "b" or dtype == np.float16:
        target = np.dtype(np.float32)
    elif dtype.kind in "iu":
        exact = x.size == 0 or (int(x.max()) <= FLOAT32_EXACT and int(x.min()) >= -FLOAT32_EXACT)
        target = np.dtype(np.float32 if exact else np.float64)
    else:
        raise DataError(f"{what} has the dtype {x.dtype}; it must hold integers, booleans or floats of up to 64 bits")
    return np.ascontiguousarray(x, dtype=target)


def check_finite(x: Rows, *, feature_names: tuple[str, ...] | None = None, what: str = "X") -> None:
    """Raise DataError that names the first NaN or infinity of x (n, D) by row and column."""
    if x.dtype.kind != "f":
        return
    for part in row_chunks(*x.shape):
        values = x[part]
        finite = np.isfinite(values)
        if not finite.all():
            row, column = np.argwhere(~finite)[0].tolist()
            value = "NaN" if np.isnan(values[row, column]) else "infinity (inf)"
            place = f"row {part.start + row}, {name_column(column, feature_names)}"
            raise DataError(f"{what} contains {value} at {place}; fill in or remove such rows first")


def check_examples(
    x: Rows,
    y: npt.NDArray[Any] | None = None,
    *,
    n_classes: int | None = None,
    feature_names: tuple[str, ...] | None = None,
    what: str = "X",
) -> None:
    """Check that x, and y where given, can be trained on or predicted from.

    Parameters
    ----------
    x : ndarray or RowsOnDisk (n, D), numeric
    y : ndarray (n,) or None
        Labels of any kind. None, as in prediction, leaves out the checks on labels.
    n_classes : int or None
        How many classes the labels must be able to cover, where that is known beforehand.
    feature_names : tuple of str or None
        Names for the message that points at a column.
    what : str
        What messages call `x`.

    Raises
    ------
    DataError
        For no rows or columns, labels that do not match the rows, NaN or infinity, a single class, or fewer rows
        than classes.

    Examples
    --------
    >>> check_examples(np.array([[1.0], [np.nan]]), np.array([0, 1]))
    Traceback (most recent call last):
        ...
    fastmlp.errors.DataError: X contains NaN at row 1, column 0; fill in or remove such rows first
    """
    if x.ndim != 2:
        raise DataError(f"{what} has the shape {x.shape}; it must have two axes, one row per example")
    if x.shape[0] == 0:
        raise DataError(f"{what} has no rows: 0 samples, at least one is needed")
    if x.shape[1] == 0:
        raise DataError(f"{what} has no columns: 0 features, at least one is needed")
    check_finite(x, feature_names=feature_names, what=what)
    if y is None:
        return
    if y.ndim != 1:
        raise DataError(f"the labels have the shape {y.shape}; they must have one axis, one label per row of {what}")
    if len(y) != len(x):
        raise DataError(f"{what} has {len(x)} rows but there are {len(y)} labels; each row needs one label")
    if n_classes is not None and len(x) < n_classes:
        raise DataError(f"{what} has {len(x)} rows, fewer than the {n_classes} classes")
    if np.all(y == y[0]):
        raise DataError(f"the labels hold one class only, {y.tolist()[0]!r}; at least two classes are needed")


def check_text(y: npt.NDArray[Any], where: str) -> None:
    """Raise DataError for labels (n,) from a file whose text has numbers beyond the last character.

    NumPy does not look, and to Python's text they are beyond what its memory is laid out for.
    """
    if y.dtype.kind != "U" or not y.nbytes:
        return
    characters = np.ascontiguousarray(y).view(np.dtype(np.uint32).newbyteorder(y.dtype.byteorder)).reshape(len(y), -1)
    beyond = (characters > sys.maxunicode).any(axis=1)                  # (n,)
    if beyond.any():
        raise DataError(f"{where}: the label of row {int(beyond.argmax())} is no text: the file is damaged")


def encode_labels(y: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Number the classes of labels that are integers, booleans, whole floats or text.

    Parameters
    ----------
    y : ndarray (n,)
        Labels as the user wrote them.

    Returns
    -------
    codes : ndarray (n,), int64
        Positions in `classes`.
    classes : ndarray (C,)
        The distinct labels, sorted; `classes[codes]` is `y` again. Whole floats come back as int64.

    Raises
    ------
    DataError
        For missing labels, fractions, a mix of numbers and text, or labels of another kind.

    Examples
    --------
    >>> encode_labels(np.array(["dog", "cat", "dog"]))
    (array([1, 0, 1]), array(['cat', 'dog'], dtype='<U3'))
    """
    labels = _plain_labels(np.asarray(y))
    if isinstance(labels, list):
        return _encode_text(labels)
    classes, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64, copy=False), classes


def _encode_text(labels: list[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """What `encode_labels` returns; only distinct texts become an array, where each takes as much as the longest."""
    seen: dict[str, int] = {}
    numbers = np.array([seen.setdefault(label, len(seen)) for label in labels], np.int64)      # (n,)
    longest = max(map(len, seen), default=0)
    if 4 * longest * len(seen) > UNSUSPECTED_BYTES:
        raise DataError(f"the labels are {len(seen)} different texts of up to {longest} characters; classes need names "
                        "that are shorter, or fewer")
    classes, places = np.unique(np.array(list(seen), str), return_inverse=True)                # (C,)
    return places.astype(np.int64, copy=False)[numbers], classes


def encode_known_labels(y: npt.NDArray[Any], classes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Number labels (n,) by their position in `classes` (C,), and raise DataError for a label that is not there.

    Examples
    --------
    >>> encode_known_labels(np.array(["dog", "dog"]), np.array(["cat", "dog"]))
    array([1, 1])
    """
    codes, found = encode_labels(y)
    position = {label: number for number, label in enumerate(classes.tolist())}
    unknown = [label for label in found.tolist() if label not in position]
    if unknown:
        known = ", ".join(repr(label) for label in classes[:10].tolist()) + (", ..." if len(classes) > 10 else "")
        raise DataError(f"the label {unknown[0]!r} is not among the {len(classes)} classes that were learned: {known}")
    return np.array([position[label] for label in found.tolist()], np.int64)[codes]


def _plain_labels(y: npt.NDArray[Any]) -> npt.NDArray[Any] | list[str]:
    """Labels (n,) as an array of integers, booleans or text, which np.unique can sort, or as a list of text."""
    if y.ndim != 1:
        raise DataError(f"the labels have the shape {y.shape}; they must have one axis, one label per example")
    if y.dtype.kind in "biuU":
        return y
    if y.dtype.kind == "f":
        return _whole_numbers(y)
    if y.dtype.kind in "OT":  # T is NumPy's text of variable length
        return _plain_objects(y)
    raise DataError(f"the labels have the dtype {y.dtype}; they must be integers, booleans or text")


def _whole_numbers(y: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Float labels (n,) as int64."""
    finite = np.isfinite(y)
    if not finite.all():
        row = int(np.argmin(finite))
        value = "NaN" if np.isnan(y[row]) else "infinity (inf)"
        raise DataError(f"the label of row {row} is {value}; remove rows without a label first")
    whole = (y == np.floor(y)) & (np.abs(y) < 2.0**63)
    if not whole.all():
        row = int(np.argmin(whole))
        raise DataError(
            f"Unknown label type: the label of row {row} is {y[row]!s}, which names no class; "
            "this looks like regression, and only classification is offered"
        )
    return y.astype(np.int64)


def _plain_objects(y: npt.NDArray[Any]) -> npt.NDArray[Any] | list[str]:
    """Labels held as Python objects (n,), as pandas hands out text, brought to one plain dtype or a list of text."""
    labels: list[Any] = y.tolist()
    for row, label in enumerate(labels):
        if label is None or label != label:  # only NaN differs from itself
            raise DataError(f"the label of row {row} is missing; remove rows without a label first")
    if all(isinstance(label, str) for label in labels):
        return labels
    if not all(isinstance(label, numbers.Real) for label in labels):
        kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise DataError(f"the labels mix kinds or are of a kind that names no class ({kinds}); use numbers or text")
    plain = np.array(labels)
    if plain.dtype.kind not in "biuf":
        raise DataError("the labels hold integers too large for 64 bits; use smaller numbers or text")
    return _plain_labels(plain)
