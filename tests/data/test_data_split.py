"""Splits: exact size, each class's share, reproducible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp.data.split import assign_folds, cut, part_size, stratified_split
from fastmlp.errors import ConfigError, DataError


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), share=st.floats(0, 1), seed=st.integers(0, 100))
def test_split_is_exact_stratified_and_leaves_each_class_a_row(counts, share, seed):
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    size = int(share * (len(codes) - len(counts)))
    kept, drawn = stratified_split(codes, size, np.random.default_rng(seed))
    assert len(drawn) == size
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, drawn])), np.arange(len(codes)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(drawn) > 0).all()
    kept_counts = np.bincount(codes[kept], minlength=len(counts))
    assert (kept_counts >= 1).all()
    drawn_counts = np.bincount(codes[drawn], minlength=len(counts))
    quota = size * np.array(counts) / len(codes)
    assert (drawn_counts >= np.minimum(np.floor(quota), np.array(counts) - 1)).all()
    if min(counts) * (1 - size / len(codes)) >= 2:  # no class at its limit: the plain rule of largest remainders
        assert (np.abs(drawn_counts - quota) < 1).all()


def test_largest_remainders_get_the_rows_left_over():
    codes = np.repeat([0, 1, 2], [50, 30, 19])  # quotas of 10: 5.05, 3.03, 1.92
    drawn = stratified_split(codes, 10, np.random.default_rng(0))[1]
    np.testing.assert_array_equal(np.bincount(codes[drawn]), [5, 3, 2])


def test_seed_draws_the_same_rows_again_and_another_seed_others():
    codes = np.arange(1000) % 3
    first, again, other = (stratified_split(codes, 100, np.random.default_rng(seed))[1] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_class_with_one_row_stays_in_training():
    kept, _ = stratified_split(np.array([0, 0, 0, 0, 1]), 3, np.random.default_rng(0))
    assert 4 in kept


def test_too_large_a_part_names_the_most():
    with pytest.raises(DataError, match=r"5 of 6 examples .* for test: .* so 4 is the most"):
        stratified_split(np.array([0, 0, 0, 1, 1, 1]), 5, np.random.default_rng(0), "test")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(0, 0), (0.0, 0), (1, 1), (250, 250), (np.int64(7), 7), (0.25, 50), (0.001, 1), (0.999, 200)],
)
def test_part_size(wanted, expected):
    assert part_size(wanted, 200, "validation") == expected


@pytest.mark.parametrize("wanted", [-1, 1.0, 1.5, -0.1, float("nan"), float("inf"), True, False, "5", None, [3]])
def test_part_size_refuses_what_is_neither_number_nor_fraction(wanted):
    with pytest.raises(ConfigError, match="validation is "):
        part_size(wanted, 200, "validation")


@pytest.mark.parametrize("folds", [2, 3, 7, 20])
def test_folds_are_of_equal_size_and_so_are_their_classes(folds):
    codes = np.repeat([0, 1, 2], [9, 6, 5])
    fold = assign_folds(codes, folds, np.random.default_rng(0))
    for counts in (np.bincount(fold, minlength=folds),
                   *(np.bincount(fold[codes == code], minlength=folds) for code in range(3))):
        assert len(counts) == folds
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(fold, assign_folds(codes, folds, np.random.default_rng(1)))


@pytest.mark.parametrize("folds", [1, 0, 21])
def test_folds_that_cannot_be_are_refused(folds):
    with pytest.raises(ConfigError, match=f"{folds} folds cannot be made of 20 examples"):
        assign_folds(np.zeros(20, np.int64), folds, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(7, 5), (7, 1), (7, 0)])
@pytest.mark.parametrize("bytes_at_once", [1, 14, 1 << 20])
def test_cutting_gives_the_rows_of_each_part_within_the_array(monkeypatch, shape, bytes_at_once):
    monkeypatch.setattr("fastmlp.data.split.REORDERED_BYTES", bytes_at_once)
    x = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    whole, parts = x.copy(), [np.array([1, 2, 6]), np.arange(0), np.array([5, 0]), np.array([3, 4])]
    for part, rows in zip(cut(x, parts), parts, strict=True):
        np.testing.assert_array_equal(part, whole[rows])
        assert part.base is x
