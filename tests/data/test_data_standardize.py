"""Standardising: right to the last digits where simple formulas fail, and frugal with memory."""

import math
import tracemalloc

import numpy as np
import pytest

from fastmlp.data import validate
from fastmlp.data.standardize import Standardizer
from fastmlp.errors import ConfigError, DataError

GENERATOR = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("chunk_bytes", [1, 1000, 1 << 22])
def test_statistics_are_those_of_the_whole_whatever_the_chunks(monkeypatch, dtype, chunk_bytes):
    monkeypatch.setattr(validate, "CHUNK_BYTES", chunk_bytes)
    x = GENERATOR.integers(0, 256, (203, 7)).astype(dtype)
    standardizer = Standardizer.fit(x, "feature")
    exact = x.astype(np.longdouble)
    np.testing.assert_allclose(standardizer.mean, exact.mean(0).astype(float), rtol=1e-15)
    np.testing.assert_allclose(standardizer.std, exact.std(0).astype(float), rtol=1e-14)
    expected = ((exact - exact.mean(0)) / exact.std(0)).astype(np.float32)
    result = standardizer.apply(x, np.float32)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("center", [1e9, -1e12, 1e14])
def test_small_deviations_from_a_large_mean_survive(center):
    x = np.where(np.arange(100_000)[:, None] % 4 == 0, center + 1, center - 1)
    standardizer = Standardizer.fit(x, "feature")
    np.testing.assert_allclose(standardizer.mean - center, -0.5, atol=max(1e-6, abs(center) * 2e-16))
    np.testing.assert_allclose(standardizer.std, np.sqrt(0.75), rtol=1e-6)


def test_mean_is_right_to_the_last_digit_where_a_plain_sum_is_not():
    x = np.full((100_000, 2), 0.1)  # two columns, as NumPy sums a single one pairwise
    x[0] = 0.2
    exact = math.fsum(x[:, 0]) / len(x)
    assert abs(x.sum(axis=0)[0] / len(x) - exact) > 5 * np.spacing(exact)
    assert abs(Standardizer.fit(x, "feature").mean[0] - exact) <= np.spacing(exact)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e-300, 1e15 + 0.3, 1 / 3])
def test_constant_column_has_deviation_one_and_becomes_zero(value):
    x = np.full((99_999, 1), value)
    standardizer = Standardizer.fit(x, "feature")
    assert standardizer.std == 1.0
    np.testing.assert_allclose(standardizer.apply(x, np.float64), 0.0, atol=abs(value) * 1e-15)


def test_column_constant_up_to_rounding_counts_as_constant():
    x = np.where(np.arange(1000)[:, None] % 2 == 0, 0.1 + 0.2, 0.3)
    assert len(np.unique(x)) == 2
    assert Standardizer.fit(x, "feature").std == 1.0


def test_neighbouring_integers_in_float32_are_information():
    x = np.where(np.arange(1000)[:, None] % 2 == 0, 16_000_000, 16_000_001).astype(np.float32)
    np.testing.assert_allclose(Standardizer.fit(x, "feature").std, 0.5)


def test_scale_divides_by_255_and_none_changes_nothing():
    x = np.array([[0, 51, 255]], np.uint8)
    np.testing.assert_allclose(Standardizer.fit(x, "scale").apply(x, np.float64), [[0.0, 0.2, 1.0]])
    np.testing.assert_array_equal(Standardizer.fit(x, "none").apply(x, np.float32), x)


def test_no_float_copy_of_the_whole_is_made():
    x = np.zeros((20_000, 1000), np.uint8)  # 20 MB; as float64 160 MB
    tracemalloc.start()
    try:
        standardizer = Standardizer.fit(x, "feature")
        assert tracemalloc.get_traced_memory()[1] < 20e6
        tracemalloc.reset_peak()
        standardizer.apply(x[:5000], np.float32)  # 20 MB
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


def test_result_too_large_for_its_dtype_names_row_and_column():
    standardizer = Standardizer.fit(np.array([[0.0, 0.0], [1.0, 1.0]]), "feature")
    with pytest.raises(DataError, match=r"row 1, column 1 of X is 1e\+300.* no finite float32"):
        standardizer.apply(np.array([[0.0, 0.0], [0.0, 1e300]]), np.float32)
    with pytest.raises(DataError, match="row 0, column 0 of X is nan"):
        standardizer.apply(np.array([[np.nan, 0.0]]), np.float32)


@pytest.mark.parametrize("weights", [None, np.array([1e300, 1e300, 2e300])])
@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-160, 1e-100, 1e154, 1e300, 1.7e308])
def test_columns_of_any_size_are_measured_to_the_last_digits(size, weights):
    x = np.array([[1.0, -1.0, 0.0, 1.0, 4.0], [0.0, 1.0, 0.0, 1.0, 2.0], [-1.0, 1.0, 0.0, 1.0, 3.0]])
    plain = Standardizer.fit(x, "feature", weights)
    x[:, :4] *= size
    scaled = Standardizer.fit(x, "feature", weights)
    factor = np.array([size, size, size, size, 1.0])
    np.testing.assert_allclose(scaled.mean, plain.mean * factor, rtol=1e-14, atol=5e-324)
    np.testing.assert_allclose(scaled.std, np.where([1, 1, 0, 0, 1], plain.std * factor, 1.0), rtol=1e-14, atol=5e-324)


def test_rows_that_have_numbers_of_their_own_are_named_by_them():
    standardizer = Standardizer.fit(np.array([[0.0], [1.0]]), "feature")
    with pytest.raises(DataError, match="row 20, column 0 of X is nan"):
        standardizer.apply(np.array([[0.0], [np.nan], [0.0]]), np.float32, np.array([10, 20, 30]))


def test_misuse_is_refused():
    standardizer = Standardizer.fit(np.eye(3), "feature")
    with pytest.raises(DataError, match="3 features"):
        standardizer.apply(np.eye(2), np.float32)
    with pytest.raises(ConfigError, match="one of feature, scale, none"):
        Standardizer.fit(np.eye(3), "zscore")
    with pytest.raises(DataError, match="no training examples"):
        Standardizer.fit(np.eye(3)[:0], "feature")


def test_the_deviation_of_bytes_is_at_least_their_resolution():
    x = np.zeros((100, 2), np.uint8)
    x[0, 0], x[:, 1] = 1, np.arange(100)
    assert Standardizer.fit(x, "feature").std.tolist() == [1.0, pytest.approx(np.arange(100).std())]
    assert Standardizer.fit(x.astype(np.float32), "feature").std[0] == pytest.approx(np.sqrt(0.01 * 0.99))
