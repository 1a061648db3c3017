"""A data set from a program's arrays: its parts, what belongs together, and what does not fit."""

import numpy as np
import pytest

from fastmlp.data.arrays import from_arrays
from fastmlp.errors import ConfigError, DataError

NONE = (None, None)
X, LABELS = np.arange(12.0).reshape(6, 2), np.array(["b", "a"] * 3)


def test_arrays_become_parts_and_labels_are_numbered_by_those_of_training():
    data = from_arrays(X, LABELS, (X[:3] + 1, ["a", "b", "b"]), (X[:1].tolist(), ["b"]))
    assert (data.name, data.brings_test, data.classes.tolist()) == ("arrays", True, ["a", "b"])
    np.testing.assert_array_equal(data.x_train, X)
    np.testing.assert_array_equal(data.x_val, X[:3] + 1)
    np.testing.assert_array_equal(data.x_test, X[:1])
    assert [y.tolist() for y in (data.y_train, data.y_val, data.y_test)] == [[1, 0] * 3, [0, 1, 1], [1]]


def test_parts_that_are_not_given_are_empty():
    data = from_arrays(X, LABELS, NONE, NONE)
    assert data.x_val.shape == data.x_test.shape == (0, 2)
    assert data.y_val.dtype == data.y_test.dtype == np.int64
    assert not data.brings_test


def test_a_data_set_stays_what_it_is_and_takes_no_arrays_beside():
    data = from_arrays(X, LABELS, NONE, NONE)
    assert from_arrays(data, None, NONE, NONE) is data
    for y, validation, test in ((LABELS, NONE, NONE), (None, (X, None), NONE), (None, NONE, (None, LABELS))):
        with pytest.raises(ConfigError, match="belong to arrays: a data set has them in it"):
            from_arrays(data, y, validation, test)


@pytest.mark.parametrize("name", ["val", "test"])
@pytest.mark.parametrize(("part", "error", "message"), [
    ((X, None), ConfigError, "X_{0} and y_{0} belong together"),
    ((None, LABELS), ConfigError, "X_{0} and y_{0} belong together"),
    ((X[:, :1], LABELS), DataError, r"X_{0} of shape \(6, 1\) and y_{0} of shape \(6,\) do not fit X, which has 2"),
    ((X, LABELS[:5]), DataError, r"X_{0} of shape \(6, 2\) and y_{0} of shape \(5,\) do not fit X"),
    ((X * np.nan, LABELS), DataError, "X_{0} contains NaN at row 0"),
    ((X.astype("U9"), LABELS), DataError, "X_{0} has the dtype <U9"),
    ((X, ["c"] * 6), DataError, "the label 'c' is not among"),
])
def test_parts_that_do_not_fit_are_named(name, part, error, message):
    parts = {"val": NONE, "test": NONE, name: part}
    with pytest.raises(error, match=message.format(name)):
        from_arrays(X, LABELS, parts["val"], parts["test"])


def test_arrays_without_labels_are_refused():
    with pytest.raises(DataError, match="labels are missing: give them as y"):
        from_arrays(X, None, NONE, NONE)
