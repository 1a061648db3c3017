"""NumPy's maker beyond the contract."""

import numpy as np
import pytest

from fastmlp.kernels import numpy_inplace

pytestmark = pytest.mark.L0


def test_rows_too_long_to_be_repeated_standardise_to_the_same_bits(monkeypatch):
    rng = np.random.default_rng(0)
    data, labels, rows = rng.integers(0, 256, (9, 40), np.uint8), np.arange(9) % 3, np.array([7, 0, 3, 3])
    mean, inv_std = rng.normal(size=(2, 40)).astype(np.float32)

    def gathered():
        x, targets = np.empty((4, 40), np.float32), np.empty((4, 3), np.float32)
        numpy_inplace.gather(data, labels, np.arange(3), rows, mean, inv_std, x, targets)
        return x

    repeated = gathered()
    monkeypatch.setattr(numpy_inplace, "_tiles", tiles := {})
    monkeypatch.setattr(numpy_inplace, "LARGEST_TILE", 4 * mean.nbytes - 1)
    assert np.array_equal(gathered(), repeated)
    assert not tiles
