"""What the readers return: examples as rows, labels beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.rows_on_disk import Rows


@dataclass(frozen=True, eq=False)
class ExampleSet:
    """Examples as a file holds them, with the labels as the user wrote them.

    Attributes
    ----------
    x : ndarray or RowsOnDisk (n, D), uint8, float32 or float64
        Examples as rows, not standardised.
    y : ndarray (n,) or None
        Labels, numbers or text; None where the file has none.
    image_shape : (channels, height, width) or None
        How a row is laid out where the examples are images.
    feature_names : tuple of str or None
        The columns' names where the file has them.
    """

    x: Rows
    y: npt.NDArray[Any] | None
    image_shape: tuple[int, int, int] | None = None
    feature_names: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training, validation and test examples.

    Attributes
    ----------
    name : str
        What the user asked for: `digits`, `cifar10` or the file's name.
    x_train, x_val, x_test : ndarray or RowsOnDisk (n, D), uint8, float32 or float64
        Examples as rows, not standardised; bytes stay bytes. A part that is absent has zero rows. Data too large for
        memory stay on disk: `x_train[rows]` reads some.
    y_train, y_val, y_test : ndarray (n,), int64
        Class numbers 0 .. C-1, indices into `classes`.
    classes : ndarray (C,)
        The labels as the user wrote them: numbers or strings, sorted.
    image_shape : (channels, height, width) or None
        How a row is laid out where the examples are images.
    feature_names : tuple of str or None
        The columns' names where the file has them.
    brings_test : bool
        Whether the test part came with the data; otherwise it was held out of them.
    """

    name: str
    x_train: Rows
    y_train: npt.NDArray[np.int64]
    x_val: Rows
    y_val: npt.NDArray[np.int64]
    x_test: Rows
    y_test: npt.NDArray[np.int64]
    classes: npt.NDArray[Any]
    image_shape: tuple[int, int, int] | None = None
    feature_names: tuple[str, ...] | None = None
    brings_test: bool = False
