"""Parquet files larger than the memory they may take: the same rows as in memory, and the same sentences."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from fastmlp.data import load_dataset, parquet_rows
from fastmlp.data.rows_on_disk import RowsOnDisk
from fastmlp.errors import DataError

N = 500
RNG = np.random.default_rng(0)
KINDS = np.array(["ant", "bee", "cat"])[np.arange(N) % 3]
BYTES, SHORTS = RNG.integers(256, size=N).astype(np.uint8), RNG.integers(-999, 999, N).astype(np.int16)
FLOATS, DOUBLES = RNG.normal(size=N).astype(np.float32), RNG.normal(size=N)


@pytest.fixture
def save(tmp_path, monkeypatch):
    """A table as a file whose row groups and batches are small; the path."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(parquet_rows, "BATCH_BYTES", 700)

    def save(**columns):
        parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet", row_group_size=130)
        return tmp_path / "table.parquet"
    return save


def both(path, **options):
    """The data set in memory and on disk."""
    return [load_dataset(path, data_memory=memory, **options) for memory in (10**9, 10_000)]


@pytest.mark.parametrize(("columns", "dtype"), [
    ([BYTES, BYTES[::-1]], "u1"), ([BYTES, SHORTS], "f4"), ([FLOATS, BYTES, BYTES > 100], "f4"),
    ([DOUBLES, SHORTS], "f8"), ([SHORTS.astype(np.int64) << 20, BYTES], "f8"), ([DOUBLES.astype(np.float16)], "f4")])
@pytest.mark.parametrize("labels", [KINDS, np.arange(N) % 4, KINDS == "bee"])
def test_rows_on_disk_are_those_that_are_read_into_memory(save, columns, dtype, labels):
    path = save(**{f"x{k}": column for k, column in enumerate(columns)}, kind=labels)
    kept = load_dataset(path, target="kind")
    left = load_dataset(path, target="kind", data_memory=1000)
    assert isinstance(kept.x_train, np.ndarray)
    assert isinstance(left.x_train, RowsOnDisk)
    assert left.x_train.dtype == dtype
    assert left.feature_names == kept.feature_names
    np.testing.assert_array_equal(left.classes, kept.classes)
    for name in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(left, f"x_{name}"), getattr(kept, f"x_{name}"))
        np.testing.assert_array_equal(getattr(left, f"y_{name}"), getattr(kept, f"y_{name}"))


def test_the_place_of_the_target_and_an_index_of_pandas_change_nothing(save):
    import pandas

    path = save(kind=KINDS)
    pandas.DataFrame({"a": DOUBLES, "kind": KINDS, "b": SHORTS}, index=1.5 * np.arange(N)).to_parquet(path)
    kept, left = both(path, target="kind")
    assert kept.feature_names == left.feature_names == ("a", "b")
    np.testing.assert_array_equal(left.x_test, kept.x_test)


def replaced(column, row, value):
    changed = column.tolist()
    changed[row] = value
    return changed


@pytest.mark.parametrize(("columns", "message"), [
    ({"a": replaced(DOUBLES, 401, None)}, "value of column 'a' in row 401 is missing"),
    ({"a": replaced(DOUBLES, 401, np.nan)}, "value of column 'a' in row 401 is missing"),
    ({"a": replaced(DOUBLES, 333, np.inf)}, "infinity .* row 333, column 'a'"),
    ({"a": replaced(BYTES, 402, None), "b": BYTES}, "value of column 'a' in row 402 is missing"),
    ({"a": DOUBLES, "b": replaced(np.array(["1.5"] * N), 260, "one")}, "column 'b' has '.*' in row"),
    ({"a": DOUBLES, "kind": replaced(KINDS, 270, None)}, "value of column 'kind' in row 270 is missing"),
    ({"a": DOUBLES, "kind": replaced(DOUBLES * 0, 270, np.nan)}, "value of column 'kind' in row 270 is missing"),
    ({"a": DOUBLES, "b": pyarrow.array(np.arange(N), "timestamp[s]")}, "column 'b' h.*; inputs must be numbers"),
    ({}, "has no column beside 'kind'"),
])
def test_faults_are_named_by_column_and_row_as_in_memory(save, columns, message):
    path = save(**{"kind": KINDS, **columns})
    for memory in (10**9, 100):
        with pytest.raises(DataError, match=message):
            load_dataset(path, target="kind", data_memory=memory)
    assert not list(Path(os.environ["TMPDIR"]).iterdir())


def test_a_target_that_is_not_there_is_refused(save):
    for target, message in ((None, "target is not given.* columns are a, b"), ("c", "no column 'c'; its columns")):
        with pytest.raises(DataError, match=message):
            load_dataset(save(a=DOUBLES, b=DOUBLES), target=target, data_memory=100)


def test_damage_in_the_middle_is_an_error_in_one_sentence_and_leaves_nothing(save, tmp_path):
    path = save(a=DOUBLES, b=RNG.normal(size=N), kind=KINDS)
    content = bytearray(path.read_bytes())
    content[4:1500] = bytes(1496)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"table\.parquet cannot be read as a Parquet file: "):
        load_dataset(path, target="kind", data_memory=100)
    assert not list((tmp_path / "temporary").iterdir())
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        load_dataset(path, target="kind", data_memory=100)


def test_a_disk_without_room_is_told_of_before_anything_is_written(save, monkeypatch):
    path = save(a=DOUBLES, b=DOUBLES, kind=KINDS)
    monkeypatch.setattr(parquet_rows.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 7999}))
    with pytest.raises(DataError, match=r"no room for its numbers in .*temporary: 8,000 bytes are needed and 7,999 are "
                                        r"free; set TMPDIR"):
        load_dataset(path, target="kind", data_memory=100)


def test_a_disk_that_fills_up_on_the_way_is_told_of(save, monkeypatch):
    class Full(tempfile.SpooledTemporaryFile):
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet_rows.tempfile, "TemporaryFile", lambda dir: Full())
    with pytest.raises(DataError, match=r"temporary file for the numbers of .* No space left on device; set TMPDIR"):
        load_dataset(save(a=DOUBLES, kind=KINDS), target="kind", data_memory=100)


def test_the_temporary_file_has_no_name_from_the_beginning(save, tmp_path):
    data = load_dataset(save(a=DOUBLES, kind=KINDS), target="kind", data_memory=100)
    assert not list((tmp_path / "temporary").iterdir())     # so it vanishes with the process, however that ends
    assert data.x_train[:3].shape == (3, 1)


def test_without_tmpdir_the_large_folder_is_taken(monkeypatch, tmp_path):
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(parquet_rows, "LARGE_TEMPORARY", tmp_path)
    places = []
    monkeypatch.setattr(parquet_rows.tempfile, "TemporaryFile", lambda dir: places.append(Path(dir)))
    parquet_rows._temporary_file(Path("a.parquet"), 1, 1)
    monkeypatch.setattr(parquet_rows, "LARGE_TEMPORARY", tmp_path / "absent")
    parquet_rows._temporary_file(Path("a.parquet"), 1, 1)
    assert places == [tmp_path, Path(tempfile.gettempdir())]
