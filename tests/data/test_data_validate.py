"""The shared checks: each names the value, the place and the way out."""

import numpy as np
import pytest

from fastmlp.data import validate
from fastmlp.data.validate import as_numbers, check_examples, encode_known_labels, encode_labels, row_chunks
from fastmlp.errors import DataError

X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 0, 1])


def test_good_examples_pass():
    check_examples(X, Y)
    check_examples(X.astype(np.uint8))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:0], Y[:0], "no rows"),
        (X[:, :0], Y, "no columns"),
        (X[0], Y, "two axes"),
        (X, Y[:5], "6 rows but there are 5 labels"),
        (X, Y[:, None], "one label per row"),
        (X, np.ones(6), "one class only, 1.0"),
        (X, np.array(["a"] * 6), "one class only, 'a'"),
    ],
)
def test_bad_examples_are_refused(x, y, message):
    with pytest.raises(DataError, match=message):
        check_examples(x, y)


def test_fewer_rows_than_classes_are_refused():
    with pytest.raises(DataError, match="6 rows, fewer than the 7 classes"):
        check_examples(X, Y, n_classes=7)


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "inf")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_first_value_that_is_not_finite_is_named_even_in_a_late_chunk(monkeypatch, value, name, dtype):
    monkeypatch.setattr(validate, "CHUNK_BYTES", 32)  # two rows a chunk
    x = X.astype(dtype)
    x[4, 1] = x[5, 0] = value
    with pytest.raises(DataError, match=rf"{name}.* at row 4, column 1;"):
        check_examples(x, Y)
    with pytest.raises(DataError, match=r"row 4, column 'width'"):
        check_examples(x, Y, feature_names=("height", "width"))


def test_row_chunks_cover_all_rows_once():
    assert [n for part in row_chunks(100_001, 3072) for n in range(part.start, part.stop)] == list(range(100_001))
    assert len(list(row_chunks(3, 10**9))) == 3


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 255], np.uint8, np.uint8),
        ([0.5], np.float32, np.float32),
        ([0.5], np.float64, np.float64),
        ([0.5], np.float16, np.float32),
        ([True], np.bool_, np.float32),
        ([0, 255], np.int64, np.float32),
        ([2**24, -(2**24)], np.int32, np.float32),
        ([2**24 + 1], np.int32, np.float64),
        ([-(2**24) - 1], np.int64, np.float64),
        ([2**40 + 1], np.uint64, np.float64),
        ([], np.int16, np.float32),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_keep_their_values_in_a_small_dtype(values, dtype, expected, order):
    x = np.array(values, np.dtype(dtype).newbyteorder(order))
    result = as_numbers(x)
    assert result.dtype == expected
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, np.array(values, dtype))


@pytest.mark.parametrize("dtype", ["U3", "S3", "O", "complex64", "M8[s]", "m8[s]", "V4", "longdouble"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(DataError, match="has the dtype"):
        as_numbers(np.zeros(2, dtype))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([7, -3, 7]), [-3, 7]),
        (np.array([2.0, 1.0, 2.0]), [1, 2]),
        (np.array([2.0**62, -1.0, 2.0**62]), [-1, 2**62]),
        (np.array(["b", "a", "b"]), ["a", "b"]),
        (np.array(["b", "a", "b"], object), ["a", "b"]),
        (np.array(["b", "a", "b"], np.dtypes.StringDType()), ["a", "b"]),
        (np.array([3, 1.0, 3], object), [1, 3]),
        (np.array([True, False, True]), [False, True]),
        (np.array([2, 0, 2], np.uint8), [0, 2]),
    ],
)
def test_labels_of_every_kind_are_numbered(labels, classes):
    codes, found = encode_labels(labels)
    assert codes.dtype == np.int64
    assert codes.tolist() == [1, 0, 1]
    assert found.tolist() == classes
    assert found.dtype.kind in "biuU"
    assert encode_known_labels(labels, found).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, 0.5]), r"row 1 is 0\.5.* looks like regression"),
        (np.array([0.0, np.nan]), "label of row 1 is NaN"),
        (np.array([0.0, np.inf]), "label of row 1 is inf"),
        (np.array([0.0, 1e300]), "looks like regression"),
        (np.array(["a", None], object), "label of row 1 is missing"),
        (np.array(["a", np.nan], object), "label of row 1 is missing"),
        (np.array(["a", 1], object), r"mix kinds .*\(int, str\)"),
        (np.array([1, 0.5], object), "regression"),
        (np.array([1, 10**30], object), "too large for 64 bits"),
        (np.array([(1,), [2]], object)[:, 0], None),
        (np.array([1j, 2]), "dtype complex128"),
        (np.array(["2020-01-01"], "M8[D]"), "dtype datetime64"),
        (np.eye(2), "one axis"),
    ],
)
def test_labels_that_name_no_class_are_refused(labels, message):
    if message is None:
        labels = np.empty(2, object)
        labels[:] = [(1,), "a"]
        message = r"\(str, tuple\)"
    with pytest.raises(DataError, match=message):
        encode_labels(labels)


def test_known_labels_are_found_in_any_order_and_number():
    classes = np.array(["a", "b", "c"])
    assert encode_known_labels(np.array(["c", "a", "c"]), classes).tolist() == [2, 0, 2]
    with pytest.raises(DataError, match="'d' is not among the 3 classes"):
        encode_known_labels(np.array(["a", "d"]), classes)
    with pytest.raises(DataError, match="1 is not among"):
        encode_known_labels(np.array([1]), classes)


def test_of_many_known_classes_the_first_ten_are_named():
    for n_classes, words in ((10, "8, 9$"), (11, r"8, 9, \.\.\.$")):
        with pytest.raises(DataError, match=f"99 is not among the {n_classes} classes .*: 0, 1, .*{words}"):
            encode_known_labels(np.array([99]), np.arange(n_classes))
