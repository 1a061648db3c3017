"""Read tables with one row per example and a column of labels: CSV and Parquet, through pandas."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.data.dataset import ExampleSet
from fastmlp.data.validate import as_numbers, check_expansion
from fastmlp.errors import DataError, MissingExtraError

Choose = Callable[[list[str]], list[str]]       # from the names of all columns to those of the inputs


def read_table(path: Path, target: str | None, *, needs_target: bool = False,
               columns: Sequence[str] | None = None) -> ExampleSet:
    """Read a .csv or .parquet file.

    Parameters
    ----------
    path : Path
    target : str or None
        The column of labels.
    needs_target : bool
        Whether the labels must be there. Otherwise, where they are not, all columns are inputs.
    columns : sequence of str, optional
        The inputs, in this order; by default all columns but the target.

    Returns
    -------
    ExampleSet
        With the columns' names. Whole numbers become float32 or float64, whichever is exact; columns of floats make
        the result float64 (Parquet's float32 and uint8 stay if all columns are of that type).

    Raises
    ------
    DataError
        For a file that cannot be read, no such target where it is needed, repeated or missing column names, missing
        values, and text where a number is needed; the sentence names column and row.
    MissingExtraError
        When pandas or pyarrow is missing.

    Examples
    --------
    >>> read_table(Path("irises.csv"), "species").feature_names  # doctest: +SKIP
    ('sepal_length', 'sepal_width', 'petal_length', 'petal_width')
    """
    choose = partial(choose_inputs, path=path, target=target, needs_target=needs_target, columns=columns)
    frame, inputs = _read_csv(path, choose) if path.suffix.lower() == ".csv" else _read_parquet(path, target, choose)
    if len(frame) == 0:
        raise DataError(f"{path} has no rows")
    labels = None
    if target is not None:
        check_complete(frame[target], path)
        labels = label_values(frame[target])
    return ExampleSet(as_matrix(frame, inputs, path), labels, feature_names=tuple(inputs))


def choose_inputs(names: list[str], path: Path, target: str | None, *, needs_target: bool,
                  columns: Sequence[str] | None) -> list[str]:
    """Which of a table's columns, by their names, are inputs; the parameters are those of `read_table`."""
    if (needs_target or target is not None) and target not in names:
        raise DataError(_no_target(path, target, names))
    inputs = [name for name in names if name != target]
    if columns is not None:
        missing = [name for name in columns if name not in inputs]
        if missing:
            raise DataError(f"{path} has no column {missing[0]!r}, which the model was trained on; its inputs are "
                            f"{_listed(columns)}")
        inputs = list(columns)
    if not inputs:
        raise DataError(f"{path} has no column beside {target!r}")
    return inputs


def _no_target(path: Path, target: str | None, columns: list[str]) -> str:
    if target is None:
        return (f"target is not given: name the column of {path} that holds the labels; its columns are "
                f"{_listed(columns)}")
    return f"{path} has no column {target!r}; its columns are {_listed(columns)}"


def _listed(names: Sequence[str]) -> str:
    """Names for a sentence: the first thirty, none of them long."""
    short = [name if len(name) <= 40 else f"{name[:37]}..." for name in names[:30]]
    return ", ".join(short) + (", ..." if len(names) > 30 else "")


def _import_pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError('reading .csv and .parquet files needs pandas: pip install "fastmlp[data]"') from error
    return pandas


def _read_csv(path: Path, choose: Choose) -> tuple[Any, list[str]]:
    """All columns as a data frame, and which of them are inputs."""
    pandas = _import_pandas()
    # index_col=False: pandas must not quietly take the first column for row names when rows are longer than the header.
    options = {"encoding": "utf-8-sig", "index_col": False, "low_memory": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # pandas would go on without some of the data
            # pandas renames repeated and empty names, so the header is looked at by itself first.
            header = pandas.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, **options)
            names = header.iloc[0].tolist()
            check_names(names, path)
            inputs = choose(names)
            check_expansion(8 * len(names) * _count_lines(path), path.stat().st_size, str(path))    # short lines
            return pandas.read_csv(path, **options), inputs
    except DataError:
        raise
    except (OSError, ValueError, pandas.errors.ParserWarning) as error:
        raise DataError(f"{path} cannot be read as a CSV file: {one_line(error)}") from error


def _count_lines(path: Path) -> int:
    """Lines of a text file, whichever way they end; in quotes, too."""
    with path.open("rb") as file:
        counts = [(piece.count(b"\n"), piece.count(b"\r")) for piece in iter(partial(file.read, 1 << 20), b"")]
    return 1 + max(map(sum, zip(*counts, strict=True)), default=0)


def _read_parquet(path: Path, target: str | None, choose: Choose) -> tuple[Any, list[str]]:
    """Inputs and target as a data frame, and the names of the inputs."""
    with opened_parquet(path, choose, target) as (file, inputs):
        return file.read(columns=wanted_columns(inputs, target)).replace_schema_metadata().to_pandas(), inputs


def wanted_columns(inputs: list[str], target: str | None) -> list[str]:
    """The columns that are read: inputs, and the target where there is one."""
    return [*inputs, *([] if target is None else [target])]


@contextlib.contextmanager
def opened_parquet(path: Path, choose: Choose, target: str | None, **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """An open Parquet file and the names of its inputs; whatever Arrow complains of meanwhile becomes a DataError.

    Text comes as a dictionary: a long word that is there a million times takes memory once.
    """
    _import_pandas()
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError as error:
        raise MissingExtraError('reading .parquet files needs pyarrow: pip install "fastmlp[data]"') from error
    try:
        schema = parquet.read_schema(path)
        inputs = choose(parquet_columns(schema, path))
        wanted = wanted_columns(inputs, target)
        for name in wanted:
            kind = schema.field(name).type
            if types.is_nested(getattr(kind, "storage_type", kind)):
                raise DataError(f"{path}: column {name!r} holds values of the type {kind}; inputs and labels must be "
                                "single values")
        with parquet.ParquetFile(path, read_dictionary=wanted, **options) as file:
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            n_rows = max(file.metadata.num_rows, sum(group.num_rows for group in groups))
            values = n_rows * sum(type_width(schema.field(name).type) for name in wanted)
            check_expansion(max(values, sum(group.total_byte_size for group in groups)), path.stat().st_size, str(path))
            yield file, inputs
    except DataError:
        raise
    except (OSError, ValueError, ArrowException) as error:
        raise DataError(f"{path} cannot be read as a Parquet file: {one_line(error)}") from error


def type_width(kind: Any) -> int:
    """Bytes of a value of an Arrow type in memory; of text, those of a pointer to it."""
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:
        return 8


def parquet_columns(schema: Any, path: Path) -> list[str]:
    """The names of a Parquet file's columns, but for those in which pandas kept the names of a frame's rows.

    That is all that is believed of what pandas says about the table: the rest would have types looked up by name.
    """
    check_names(schema.names, path)
    try:
        index = json.loads(schema.metadata[b"pandas"])["index_columns"]
        row_names = {name for name in index if isinstance(name, str)}
    except (TypeError, ValueError, KeyError, RecursionError):    # nothing of pandas is there, or it is damaged
        row_names = set()
    return [name for name in schema.names if name not in row_names]


def check_names(names: Sequence[str], path: Path) -> None:
    """Refuse names that do not tell the columns apart."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"{path} has more than one column named {repeated[0]!r}; rename or remove one of them")
    if "" in names:
        raise DataError(
            f"{path}: column {names.index('')} has no name; name it, or remove it if it only numbers the rows "
            "(pandas writes such a column unless to_csv is told index=False)"
        )


def check_complete(column: Any, path: Path, first_row: int = 0) -> None:
    """Refuse a pandas column, whose rows are counted from `first_row` on, with a missing value."""
    missing = column.isna().to_numpy()
    if missing.any():
        row = first_row + int(np.argmax(missing))
        raise DataError(
            f"{path}: the value of column {column.name!r} in row {row} is missing (empty, NaN, or a word such as NA); "
            "fill in or remove such rows first"
        )


def label_values(column: Any) -> npt.NDArray[Any]:
    """Labels (n,) of a pandas column; of a dictionary's words each is one object, as there may be very many."""
    labels: npt.NDArray[Any]
    if hasattr(column, "cat"):
        labels = column.cat.categories.to_numpy()[column.cat.codes.to_numpy()]
    else:
        labels = column.to_numpy()
    return labels


def as_matrix(frame: Any, names: Sequence[str], path: Path, first_row: int = 0) -> npt.NDArray[Any]:
    """The named columns as one matrix (n, D) of the smallest dtype that holds each of them exactly."""
    types = _import_pandas().api.types
    columns = []
    for name in names:
        column = frame[name]
        check_complete(column, path, first_row)
        if not types.is_numeric_dtype(column.dtype) or types.is_complex_dtype(column.dtype):
            raise DataError(f"{path}: {_first_text(column, first_row)}; inputs must be numbers")
        columns.append(as_numbers(column.to_numpy(), f"{path}: column {name!r}"))  # (n,)
    matrix = np.empty((len(frame), len(names)), np.result_type(*{values.dtype for values in columns}))  # (n, D)
    for number, values in enumerate(columns):
        matrix[:, number] = values
    return matrix


def _first_text(column: Any, first_row: int) -> str:
    """Say where a column that should be numeric first is not."""
    pandas = _import_pandas()
    if column.dtype.kind not in "OTU":
        return f"column {column.name!r} holds values of the type {column.dtype}"
    words = column.cat.categories.to_series() if hasattr(column, "cat") else column
    large = [isinstance(word, int) and not -2**63 <= word < 2**64 for word in words]    # which pandas keeps as objects
    readable = ~np.array(large) if any(large) else pandas.to_numeric(words, errors="coerce").notna().to_numpy()
    if hasattr(column, "cat"):
        readable = readable[column.cat.codes.to_numpy()]
    row = int(np.argmin(readable))
    value = repr(column.iloc[row])
    return (f"column {column.name!r} has {value if len(value) <= 60 else value[:57] + '...'} in row {first_row + row}"
            + (", more than 64 bits hold" if any(large) else ""))


def one_line(error: BaseException) -> str:
    """What another library says, for the middle of a sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
