"""One call for every data set: `load_dataset` to train with, `read_examples` to predict from."""

from __future__ import annotations

import contextlib
import operator
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fastmlp.data import cifar10
from fastmlp.data.dataset import Dataset, ExampleSet
from fastmlp.data.npy import read_npy
from fastmlp.data.npz import read_npz
from fastmlp.data.parquet_rows import read_parquet_to_disk, takes_more
from fastmlp.data.rows_on_disk import Rows
from fastmlp.data.split import cut, part_size, stratified_split
from fastmlp.data.tables import one_line, read_table
from fastmlp.data.validate import check_examples, encode_known_labels, encode_labels
from fastmlp.errors import ConfigError, DataError
from fastmlp.memory import free_memory
from fastmlp.seeds import Stream, generator

ALL_TRAIN_BATCHES = (1, 2, 3, 4, 5)
TEST_SEED = 20_210_101  # fixed: a test part that changed with the user's seed would leak into training over runs
TEST_FRACTION = 0.2
VALIDATION_FRACTION = 0.1
CIFAR10_VALIDATION = 5000
FILE_SUFFIXES = (".npz", ".npy", ".csv", ".parquet")
STAY_ON_DISK = (".npy", ".parquet")     # if they take more memory than they may


def load_dataset(
    data: str | os.PathLike[str] = "digits",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    target: str | None = None,
    train_batches: Sequence[int] = ALL_TRAIN_BATCHES,
    validation_batches: Sequence[int] = (),
    validation: int | float | None = None,
    test: int | float | None = None,
    seed: int = 0,
    data_memory: int | None = None,
) -> Dataset:
    """Load a data set in three parts.

    Parameters
    ----------
    data : str or path
        `digits` (1797 images of 8 x 8, with scikit-learn), `cifar10` (60,000 images of 3 x 32 x 32), or a file that
        ends in .npz (arrays X, y and perhaps X_test, y_test), .npy (X alone), .csv or .parquet.
    data_dir : path or None
        Where CIFAR-10 lies or is downloaded to; None is $FASTMLP_DATA or else a folder in the user's cache.
    target : str or None
        The column of labels in a .csv or .parquet file; for an .npy file another one that holds the labels.
    train_batches, validation_batches : sequence of int
        CIFAR-10's training batches, 1 to 5, for either part. With `validation_batches`, these are the validation
        part as they are, and `validation` must be None.
    validation, test : int, float or None
        How many examples to set aside: a number, a fraction in (0, 1), or 0 for none; from each class its share.
        `test` comes first and `validation` is of what it leaves. None means 5000 (CIFAR-10) or 10 % for validation; for
        the test it means the data set's own test part, which must not be asked for again, or else 20 %.
    seed : int
        Draws the validation part. The test part is the same for every seed.
    data_memory : int or None
        Bytes that the data may take. An .npy or .parquet file that takes more stays on disk, and its rows are read as
        they are needed. None means half of what is free.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        For data that cannot be read or trained on, names or batches that do not exist, and parts that cannot be
        filled.
    ConfigError
        For options that have no meaning or contradict each other.
    MissingExtraError
        When pandas, pyarrow or pooch is needed and missing.

    Examples
    --------
    >>> digits = load_dataset("digits", validation=100)
    >>> digits.x_train.shape, digits.x_val.shape, digits.x_test.shape
    ((1338, 64), (100, 64), (359, 64))
    """
    name = os.fspath(data)
    path = _file_path(name)
    if path is None or path.suffix.lower() == ".npz":
        _refuse(target is not None, f"target is given, but {name} needs none: only .npy, .csv and .parquet files do")
    _refuse(data_memory is not None and (path is None or path.suffix.lower() not in STAY_ON_DISK),
            f"data_memory is given, but {name} cannot stay on disk: only .npy and .parquet files can")
    if name == "cifar10":
        return _load_cifar10(data_dir, train_batches, validation_batches, validation, test, seed)
    chooses_batches = tuple(train_batches) != ALL_TRAIN_BATCHES or len(validation_batches) > 0
    _refuse(chooses_batches, f"train_batches and validation_batches are for cifar10 only, but the data is {name}")

    examples, own_test = _read(path, target, needs_target=True, memory=data_memory)
    if examples.y is None:
        raise DataError(f"{name} has no array y, which must hold the labels")
    with _naming(name):
        check_examples(examples.x, examples.y, feature_names=examples.feature_names)
        codes, classes = encode_labels(examples.y)
        if own_test is not None:
            _refuse(test is not None, f"test is {test!r}, but {name} has a test part of its own; leave test out")
            if own_test.y is None:
                raise DataError("it has X_test but no y_test")
            check_examples(own_test.x, feature_names=own_test.feature_names, what="X_test")
            rows, test_rows = np.arange(len(codes)), np.arange(0)
            y_test = encode_known_labels(own_test.y, classes)
        else:
            size = part_size(TEST_FRACTION if test is None else test, len(codes), "test")
            rows, test_rows = stratified_split(codes, size, np.random.default_rng(TEST_SEED), "test")
            y_test = codes[test_rows]
        size = part_size(VALIDATION_FRACTION if validation is None else validation, len(rows), "validation")
        train, val = (rows[chosen] for chosen in stratified_split(codes[rows], size, generator(seed, Stream.SPLIT)))
    x_train, x_val, x_test = cut(examples.x, (train, val, test_rows))
    return Dataset(
        name=name if path is None else path.name,
        x_train=x_train,
        y_train=codes[train],
        x_val=x_val,
        y_val=codes[val],
        x_test=x_test if own_test is None else own_test.x,
        y_test=y_test,
        classes=classes,
        image_shape=examples.image_shape,
        feature_names=examples.feature_names,
        brings_test=own_test is not None,
    )


def read_examples(
    data: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    target: str | None = None,
    columns: Sequence[str] | None = None,
) -> ExampleSet:
    """Read examples to predict: the test part where the data set has one, else all rows of the file.

    Parameters
    ----------
    data, data_dir
        As in `load_dataset`.
    target : str or None
        The column, or for an .npy file the other file, of labels; None where there are none, or none that matter.
    columns : sequence of str, optional
        The inputs in a .csv or .parquet file, in this order; by default all columns but the target.

    Returns
    -------
    ExampleSet
        Checked for NaN and infinity; `y`, where there is one, as the user wrote it.

    Raises
    ------
    DataError, MissingExtraError
        As in `load_dataset`.

    Examples
    --------
    >>> read_examples("digits").x.shape
    (359, 64)
    """
    name = os.fspath(data)
    if name == "cifar10":
        ((images, labels),) = cifar10.read_parts([[cifar10.TEST_BATCH]], data_dir)
        return ExampleSet(images, np.array(cifar10.CLASS_NAMES)[labels], cifar10.IMAGE_SHAPE)
    if name == "digits":
        digits = load_dataset(name)
        return ExampleSet(digits.x_test, digits.classes[digits.y_test], digits.image_shape)
    whole, own_test = _read(_file_path(name), target, needs_target=False, columns=columns)
    examples = own_test if own_test is not None else whole
    with _naming(name):
        check_examples(examples.x, feature_names=examples.feature_names)
    return examples


def _file_path(name: str) -> Path | None:
    """The path of a file that can be read, or None for a data set known by name."""
    if name in ("digits", "cifar10"):
        return None
    path = Path(name).expanduser()
    if path.suffix.lower() not in FILE_SUFFIXES:
        raise DataError(f"{name!r} is no data set; it must be digits, cifar10, or a file in {', '.join(FILE_SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    return path


def _read(path: Path | None, target: str | None, *, needs_target: bool, columns: Sequence[str] | None = None,
          memory: int | None = None) -> tuple[ExampleSet, ExampleSet | None]:
    """All examples, and those of the data set's own test part."""
    if path is None:
        return _digits(), None
    allowed = free_memory() // 2 if memory is None else memory
    try:
        if path.suffix.lower() == ".npz":
            return read_npz(path)
        if path.suffix.lower() == ".npy":
            return read_npy(path, target, needs_target=needs_target, memory=allowed), None
        if path.suffix.lower() == ".parquet" and takes_more(path, allowed):
            return read_parquet_to_disk(path, target, needs_target=needs_target, columns=columns, memory=allowed), None
        return read_table(path, target, needs_target=needs_target, columns=columns), None
    except MemoryError as error:
        raise DataError(f"{path} takes more memory than there is ({one_line(error)})") from error


def _digits() -> ExampleSet:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return ExampleSet(x.astype(np.uint8), y.astype(np.int64), (1, 8, 8))


def _load_cifar10(
    data_dir: str | os.PathLike[str] | None,
    train_batches: Sequence[int],
    validation_batches: Sequence[int],
    validation: int | float | None,
    test: int | float | None,
    seed: int,
) -> Dataset:
    _refuse(test is not None, f"test is {test!r}, but cifar10 has a test part of its own; leave test out")
    _refuse(
        len(validation_batches) > 0 and validation is not None,
        f"validation is {validation!r}, but validation_batches name the validation part already; give one of them",
    )
    train_names, val_names = _batch_names(train_batches, validation_batches)
    parts = cifar10.read_parts([train_names, val_names, [cifar10.TEST_BATCH]], data_dir)
    (images, y_train), (val_images, y_val), (x_test, y_test) = parts
    x: Sequence[Rows] = images, val_images
    if not val_names:
        size = part_size(CIFAR10_VALIDATION if validation is None else validation, len(y_train), "validation")
        train, val = stratified_split(y_train, size, generator(seed, Stream.SPLIT))
        x, y_train, y_val = cut(images, (train, val)), y_train[train], y_train[val]
    return Dataset(
        name="cifar10",
        x_train=x[0],
        y_train=y_train,
        x_val=x[1],
        y_val=y_val,
        x_test=x_test,
        y_test=y_test,
        classes=np.array(cifar10.CLASS_NAMES),
        image_shape=cifar10.IMAGE_SHAPE,
        brings_test=True,
    )


def _batch_names(train: Sequence[int], validation: Sequence[int]) -> tuple[list[str], list[str]]:
    """The names of the batches for either part, each at most once."""
    if len(train) == 0:
        raise DataError("train_batches is empty; name at least one of the batches 1 to 5")
    used: set[int] = set()
    for batch in (*train, *validation):
        if operator.index(batch) not in ALL_TRAIN_BATCHES:
            raise DataError(f"there is no batch {batch}; CIFAR-10's training batches are 1 to 5")
        if batch in used:
            raise DataError(f"batch {batch} is used twice; each can be in train_batches or validation_batches once")
        used.add(batch)
    names = cifar10.TRAIN_BATCHES
    return [names[batch - 1] for batch in train], [names[batch - 1] for batch in validation]


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the data in what is found wrong with them once they are read."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _refuse(condition: bool, message: str) -> None:
    if condition:
        raise ConfigError(message)
