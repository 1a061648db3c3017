"""The order in blocks: any order is right, so what is shown is that it mixes, and that its rows lie together."""

import numpy as np
import pytest

from fastmlp.shuffling import shuffle_blocks

SHAPES = [(1, 1, 1), (1000, 5, 400), (1000, 100, 7), (997, 3, 250), (64, 1000, 64), (500, 4, 5000), (641, 1, 640)]


@pytest.mark.parametrize(("n", "block", "window"), SHAPES)
def test_every_row_comes_once_and_another_seed_gives_another_order(n, block, window):
    orders = [shuffle_blocks(n, block, window, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(orders[0], orders[1])
    assert n < 7 or not np.array_equal(orders[0], orders[2])


def test_a_windows_rows_lie_together_in_blocks():
    order = shuffle_blocks(100_000, 50, 10_000, np.random.default_rng(0))
    for window in order.reshape(10, 10_000):
        gaps = np.diff(np.sort(window)) > 1
        assert 100 <= gaps.sum() <= 202     # 200 blocks, some of them side by side, and one shared with the next window


def test_small_windows_come_from_many_places_all_the_same():
    order = shuffle_blocks(100_000, 5000, 1000, np.random.default_rng(0))
    assert all(len(set(window // 15)) >= 60 for window in order.reshape(100, 1000))


@pytest.mark.parametrize("sizes", [[1 / 8] * 8, [0.5, 0.3, 0.1, 0.05, 0.03, 0.02]])
@pytest.mark.parametrize(("n", "window"), [(40_000, 8000), (40_000, 3000), (39_950, 12_000)])
def test_batches_of_a_file_sorted_by_class_have_the_classes_proportions(sizes, n, window):
    """Hardly farther from their share than with an order without blocks: chi-squared over all batches."""
    labels, shares = np.repeat(np.arange(len(sizes)), np.diff(np.round(np.cumsum([0, *sizes]) * n)).astype(int)), []
    statistics = []
    for seed in range(5):
        order = shuffle_blocks(n, 40, window, np.random.default_rng(seed))
        for batch in order[:n - n % 100].reshape(-1, 100):
            counts = np.bincount(labels[batch], minlength=len(sizes))
            statistics.append(((counts - 100 * np.array(sizes)) ** 2 / (100 * np.array(sizes))).sum())
        shares += [np.bincount(labels[part], minlength=len(sizes)) / window
                   for part in order[:n - n % window].reshape(-1, window)]
    expected = len(sizes) - 1               # of chi-squared, in a random order of all rows; of random blocks 1.5 to 2.3
    assert abs(np.mean(statistics) / expected - 1) < 0.2
    assert np.abs(np.array(shares) - sizes).max() < 0.03        # no window has too many of a class, or too few


def test_rows_that_lie_together_are_in_other_batches():
    """Rows of one block share a batch as often as rows of one window do, not more often."""
    together = []
    for seed in range(20):
        order = shuffle_blocks(20_000, 50, 5000, np.random.default_rng(seed))
        batch_of = np.empty(20_000, int)
        batch_of[order] = np.arange(20_000) // 100
        together.append(np.mean(batch_of[0::50] == batch_of[1::50]))
    assert 0.01 < np.mean(together) < 0.03                      # 1 / 50; of all rows 1 / 200
