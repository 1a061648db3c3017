"""A data set from arrays that a program has."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.backend import host_array
from fastmlp.data.dataset import Dataset
from fastmlp.data.validate import as_numbers, check_examples, encode_known_labels, encode_labels
from fastmlp.errors import ConfigError, DataError


def from_arrays(data: Any, y: Any, validation: tuple[Any, Any], test: tuple[Any, Any]) -> Dataset:
    """The user's arrays as a data set, checked; `data` may be a data set already.

    Parameters
    ----------
    data : array (n, D) or Dataset
        The training part.
    y : array (n,) or None
        Its labels.
    validation, test : pair of arrays (m, D) and (m,), or of None
        The other parts.

    Raises
    ------
    ConfigError, DataError
        Arrays are missing, too many, or cannot be trained on.

    Examples
    --------
    >>> data = from_arrays([[1.0], [2.0]], ["a", "b"], (None, None), ([[3.0]], ["b"]))
    >>> data.y_train.tolist(), data.y_test.tolist(), data.brings_test
    ([0, 1], [1], True)
    """
    if isinstance(data, Dataset):
        if any(array is not None for array in (y, *validation, *test)):
            raise ConfigError("y, X_val, y_val, X_test and y_test belong to arrays: a data set has them in it")
        return data
    if y is None:
        raise DataError("the labels are missing: give them as y, or a data set from load_dataset")
    x, labels = as_numbers(np.asarray(host_array(data))), np.asarray(host_array(y))
    check_examples(x, labels)
    codes, classes = encode_labels(labels)
    parts = [_part(*pair, name, x, classes) for name, pair in (("val", validation), ("test", test))]
    return Dataset("arrays", x, codes, *parts[0], *parts[1], classes, brings_test=bool(len(parts[1][1])))


def _part(x: Any, y: Any, name: str, like: npt.NDArray[Any],
          classes: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    if (x is None) != (y is None):
        raise ConfigError(f"X_{name} and y_{name} belong together: give both or neither")
    if x is None:
        return like[:0], np.zeros(0, np.int64)
    rows, labels = as_numbers(np.asarray(host_array(x)), f"X_{name}"), np.asarray(host_array(y))
    check_examples(rows, what=f"X_{name}")
    if rows.shape[1] != like.shape[1] or labels.shape != rows.shape[:1]:
        raise DataError(f"X_{name} of shape {rows.shape} and y_{name} of shape {labels.shape} do not fit X, which has "
                        f"{like.shape[1]} columns")
    return rows, encode_known_labels(labels, classes)
