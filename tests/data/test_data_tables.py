""".npz, .csv and .parquet: values arrive unchanged, and every fault is named with its place."""

import io
import sys
import warnings
import zipfile

import numpy as np
import pandas
import pyarrow
import pytest
from pyarrow import parquet

from fastmlp.data import validate
from fastmlp.data.npz import read_npz
from fastmlp.data.tables import one_line, read_table
from fastmlp.errors import DataError, MissingExtraError


def save_npz(tmp_path, **arrays):
    np.savez(tmp_path / "file.npz", **arrays)
    return tmp_path / "file.npz"


def save_text(tmp_path, text, encoding="utf-8"):
    (tmp_path / "file.csv").write_bytes(text.encode(encoding))
    return tmp_path / "file.csv"


def save_parquet(tmp_path, **columns):
    parquet.write_table(pyarrow.table(columns), tmp_path / "file.parquet")
    return tmp_path / "file.parquet"


# ---------------------------------------------------------------- .npz


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_arrays_come_back_unchanged(tmp_path, compressed):
    x, y = np.arange(12, dtype=np.uint8).reshape(4, 3), np.array(["a", "b", "a", "b"])
    (np.savez_compressed if compressed else np.savez)(tmp_path / "file.npz", X=x, y=y, X_test=x[:2], y_test=y[:2])
    examples, test = read_npz(tmp_path / "file.npz")
    assert examples.x.dtype == np.uint8
    np.testing.assert_array_equal(examples.x, x)
    np.testing.assert_array_equal(examples.y, y)
    np.testing.assert_array_equal(test.x, x[:2])
    np.testing.assert_array_equal(test.y, y[:2])


def test_npz_without_labels_or_test_part_is_read(tmp_path):
    examples, test = read_npz(save_npz(tmp_path, X=np.eye(2)))
    assert examples.y is None
    assert test is None


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [((5, 4, 6), (1, 4, 6)), ((5, 3, 4, 6), (3, 4, 6)), ((5, 1, 4, 6), (1, 4, 6)), ((5, 4, 6, 3), None)],
)
def test_npz_images_become_rows(tmp_path, shape, image_shape):
    x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    examples, _ = read_npz(save_npz(tmp_path, X=x))
    np.testing.assert_array_equal(examples.x, x.reshape(5, -1))
    assert examples.image_shape == image_shape


def test_npz_in_fortran_order_is_read_right(tmp_path):
    x = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    examples, _ = read_npz(save_npz(tmp_path, X=x))
    np.testing.assert_array_equal(examples.x, x)
    assert examples.x.flags.c_contiguous


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.eye(2)}, "no array X; it holds data"),
        ({}, "no array X; it holds nothing"),
        ({"X": np.eye(2), "y_test": np.arange(2)}, "y_test but no X_test"),
        ({"X": np.arange(3)}, r"X has the shape \(3,\)"),
        ({"X": np.zeros((1, 1, 1, 1, 1))}, "X has the shape"),
        ({"X": np.eye(2), "y": np.arange(3)}, "X has 2 rows, but the shape of its labels is"),
        ({"X": np.eye(2), "y": np.eye(2)}, "X has 2 rows, but the shape of its labels is"),
        ({"X": np.eye(2), "X_test": np.eye(3)}, "X_test has 3 columns but X has 2"),
        ({"X": np.eye(2).astype(object)}, "X holds Python objects"),
        ({"X": np.eye(2), "y": np.array(["a", "b"], object)}, "y holds Python objects"),
        ({"X": np.array([["1", "2"]])}, "X has the dtype <U1"),
        ({"X": np.eye(2) * 1j}, "X has the dtype complex128"),
    ],
)
def test_npz_with_unsuitable_arrays_is_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        read_npz(save_npz(tmp_path, **arrays))


def npy_bytes(array, shape=None):
    """An array in .npy form, whose header may lie about the shape."""
    buffer = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape if shape is None else shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + array.tobytes()


@pytest.mark.parametrize("shape", [(10**12, 8), (2**62, 4), (1, 8), (-1, 8), (0, 0)])
def test_npz_whose_header_lies_about_the_size_is_refused_before_allocating(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as archive:
        archive.writestr("X.npy", npy_bytes(np.zeros((2, 8)), shape))
    with pytest.raises(DataError, match=r"claims the shape .* but has 128 bytes|file\.npz"):
        read_npz(tmp_path / "file.npz")


def test_npz_that_is_a_zip_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "UNSUSPECTED_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "file.npz", X=np.zeros((3 << 20, 1), np.uint8))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("the member was opened"))
    with pytest.raises(DataError, match="further than data shrink"):
        read_npz(tmp_path / "file.npz")


def test_npz_of_real_size_with_honest_zeros_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "UNSUSPECTED_BYTES", 1 << 20)
    np.savez(tmp_path / "file.npz", X=np.zeros((3 << 20, 1), np.uint8))
    assert read_npz(tmp_path / "file.npz")[0].x.shape == (3 << 20, 1)


def test_npz_of_a_few_zeros_is_read_however_far_they_shrink(tmp_path):
    np.savez_compressed(tmp_path / "file.npz", X=np.zeros((1 << 20, 1), np.uint8))
    assert (tmp_path / "file.npz").stat().st_size < (1 << 20) / validate.LARGEST_EXPANSION
    assert read_npz(tmp_path / "file.npz")[0].x.shape == (1 << 20, 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_npz_cut_short_is_refused(tmp_path, share):
    path = save_npz(tmp_path, X=np.eye(30), y=np.arange(30))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"file\.npz cannot be read"):
        read_npz(path)


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"\x93NUMPY"])
def test_npz_that_is_something_else_is_refused(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as archive:
        archive.writestr("X.npy", content)
    with pytest.raises(DataError, match=r"file\.npz cannot be read"):
        read_npz(tmp_path / "file.npz")


def test_npz_with_a_damaged_byte_is_refused(tmp_path):
    path = save_npz(tmp_path, X=np.ones((30, 30)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        read_npz(path)


# ---------------------------------------------------------------- .csv


def test_csv_columns_are_named_as_they_are_written(tmp_path):
    assert read_table(save_text(tmp_path, "007,1.50,kind\n1,2,x\n3,4,y\n"), "kind").feature_names == ("007", "1.50")


def test_csv_separates_the_target_by_name(tmp_path):
    examples = read_table(save_text(tmp_path, "width,kind,height\n1.5,cat,2\n0.1,dog,4\n"), "kind")
    np.testing.assert_array_equal(examples.x, [[1.5, 2], [0.1, 4]])
    assert examples.x.dtype == np.float64
    assert examples.y.tolist() == ["cat", "dog"]
    assert examples.feature_names == ("width", "height")


def test_csv_without_the_target_column_has_inputs_only(tmp_path):
    path = save_text(tmp_path, "a,b\n1,2\n")
    examples = read_table(path, None)
    assert examples.y is None
    assert examples.feature_names == ("a", "b")
    with pytest.raises(DataError, match="no column 'kind'; its columns are a, b"):
        read_table(path, "kind")


def test_of_a_table_only_the_wanted_columns_are_read_in_their_order(tmp_path):
    path = save_text(tmp_path, "a,name,b\n1,ann,2\n3,bob,4\n")
    examples = read_table(path, None, columns=("b", "a"))
    assert examples.x.tolist() == [[2, 1], [4, 3]]
    assert examples.feature_names == ("b", "a")
    with pytest.raises(DataError, match="no column 'c', which the model was trained on"):
        read_table(path, None, columns=("b", "c"))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [("0,255", np.float32), ("True,3", np.float32), ("1,16777217", np.float64), ("1,0.5", np.float64)],
)
def test_csv_numbers_are_exact_floats(tmp_path, values, dtype):
    examples = read_table(save_text(tmp_path, f"a,b\n{values}\n"), None)
    assert examples.x.dtype == dtype
    np.testing.assert_array_equal(examples.x, [[float(value == "True" or value) for value in values.split(",")]])


def test_csv_with_byte_order_mark_and_windows_line_ends_is_read(tmp_path):
    assert read_table(save_text(tmp_path, "a,b\r\n1,2\r\n", "utf-8-sig"), None).feature_names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,kind\n1,2,x\n1,two,x\n", r"column 'b' has 'two' in row 1; inputs must be numbers"),
        ("a,b,kind\n1,2,x\n,3,y\n", r"column 'a' in row 1 is missing"),
        ("a,b,kind\n1,2,x\n1,NA,y\n", r"column 'b' in row 1 is missing"),
        ("a,b,kind\n1,2,x\n1,2,\n", r"column 'kind' in row 1 is missing"),
        ("a,a,kind\n1,2,x\n", "more than one column named 'a'"),
        (",a,kind\n0,2,x\n", "column 0 has no name"),
        ("a,kind\n1,x,3\n2,y,3\n", "cannot be read as a CSV file"),
        ("a,kind\n1,x\n1,y,7\n", "cannot be read as a CSV file"),
        ("a,b,kind\n1,2\n", "is missing"),
        ("a,kind\n", "no rows"),
        ("kind\nx\n", "no column beside 'kind'"),
        ("", "cannot be read as a CSV file"),
        ('a,kind\n1,"x\n', "cannot be read as a CSV file"),
        ("a,kind\n99999999999999999999999,x\n", "column 'a' has"),
    ],
)
def test_csv_with_a_fault_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_table(save_text(tmp_path, text), "kind")


def test_csv_in_another_encoding_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read as a CSV file"):
        read_table(save_text(tmp_path, "a,größe\n1,2\n", "utf-16"), None)


def test_long_text_is_shortened_in_the_message(tmp_path):
    with pytest.raises(DataError) as caught:
        read_table(save_text(tmp_path, "a\n" + "x" * 10_000 + "\n"), None)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("n_columns", "end"), [(30, r"c28, c29$"), (31, r"c28, c29, \.\.\.$")])
def test_of_many_columns_the_first_thirty_are_named(tmp_path, n_columns, end):
    path = save_text(tmp_path, ",".join(f"c{k}" for k in range(n_columns)) + "\n" + "1," * (n_columns - 1) + "1\n")
    with pytest.raises(DataError, match=f"no column 'kind'; its columns are c0, c1, .*{end}"):
        read_table(path, "kind")


def test_long_names_of_columns_are_shortened(tmp_path):
    path = save_text(tmp_path, "a" * 40 + "," + "b" * 41 + "\n1,2\n")
    with pytest.raises(DataError, match=r"its columns are a{40}, b{37}\.\.\.$"):
        read_table(path, "kind")


@pytest.mark.parametrize(("said", "line"), [("two\nlines  of it", "two lines of it"), ("", "ValueError"),
                                            ("x" * 300, "x" * 300), ("x" * 301, "x" * 297 + "...")])
def test_what_another_library_says_becomes_one_line(said, line):
    assert one_line(ValueError(said)) == line


def test_other_warnings_of_pandas_do_not_make_a_csv_unreadable(tmp_path, monkeypatch):
    def read_csv(*arguments, original=pandas.read_csv, **options):
        warnings.warn("pandas will change", FutureWarning, stacklevel=1)
        return original(*arguments, **options)

    monkeypatch.setattr(pandas, "read_csv", read_csv)
    with pytest.warns(FutureWarning):
        assert read_table(save_text(tmp_path, "a\n1\n"), None).x.shape == (1, 1)


# ---------------------------------------------------------------- .parquet


def test_parquet_separates_the_target_by_name(tmp_path):
    path = save_parquet(tmp_path, a=[1, 2], kind=["cat", "dog"], b=[0.5, 0.25])
    examples = read_table(path, "kind")
    np.testing.assert_array_equal(examples.x, [[1, 0.5], [2, 0.25]])
    assert examples.y.tolist() == ["cat", "dog"]
    assert examples.feature_names == ("a", "b")


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", np.uint8), ("float32", np.float32), ("Int64", np.float32)])
def test_parquet_keeps_small_types(tmp_path, dtype, expected):
    path = tmp_path / "file.parquet"
    pandas.DataFrame({"a": [1, 2], "b": [3, 4]}).astype(dtype).to_parquet(path)
    examples = read_table(path, None)
    assert examples.x.dtype == expected
    np.testing.assert_array_equal(examples.x, [[1, 3], [2, 4]])


def test_parquet_with_hundreds_of_columns_of_mixed_types_is_exact(tmp_path):
    columns = {f"c{k}": np.array([k, 255 - k % 256], np.uint8 if k % 2 else np.int32) for k in range(200)}
    examples = read_table(save_parquet(tmp_path, **columns), None)
    assert examples.x.dtype == np.float32
    np.testing.assert_array_equal(examples.x, np.stack(list(columns.values()), axis=1))


def test_parquet_categories_can_be_the_target(tmp_path):
    path = tmp_path / "file.parquet"
    pandas.DataFrame({"a": [1.0, 2.0], "kind": pandas.Categorical(["x", "y"])}).to_parquet(path)
    assert list(read_table(path, "kind").y) == ["x", "y"]


def test_a_parquet_category_that_is_no_number_is_named_with_its_row(tmp_path):
    path = tmp_path / "file.parquet"
    pandas.DataFrame({"a": pandas.Categorical(["7", "8", "7", "many"]), "kind": [0, 1, 0, 1]}).to_parquet(path)
    with pytest.raises(DataError, match="column 'a' has 'many' in row 3; inputs must be numbers"):
        read_table(path, "kind")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["1", "two"], "column 'b' has 'two' in row 1"),
        ([1.0, None], "column 'b' in row 1 is missing"),
        ([1, None], "column 'b' in row 1 is missing"),
        (np.array(["2020-01-01", "2021-01-01"], "M8[ms]"), "column 'b' holds values of the type datetime64"),
        ([[1], [2]], "column 'b' holds values of the type list"),
    ],
)
def test_parquet_with_a_fault_is_refused(tmp_path, column, message):
    with pytest.raises(DataError, match=message):
        read_table(save_parquet(tmp_path, a=[1, 2], b=column), None)


def test_parquet_with_repeated_columns_is_refused(tmp_path):
    parquet.write_table(pyarrow.table([[1], [2]], names=["a", "a"]), tmp_path / "file.parquet")
    with pytest.raises(DataError, match="more than one column named 'a'"):
        read_table(tmp_path / "file.parquet", None)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_parquet_that_is_something_else_is_refused(tmp_path, content):
    (tmp_path / "file.parquet").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        read_table(tmp_path / "file.parquet", None)


@pytest.mark.parametrize(("missing", "suffix"), [("pandas", "csv"), ("pandas", "parquet"), ("pyarrow", "parquet")])
def test_without_pandas_or_pyarrow_the_extra_is_named(tmp_path, monkeypatch, missing, suffix):
    path = save_text(tmp_path, "a\n1\n") if suffix == "csv" else save_parquet(tmp_path, a=[1])
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=rf'needs {missing}: pip install "fastmlp\[data\]"'):
        read_table(path, None)
