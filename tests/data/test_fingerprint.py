"""A fingerprint changes with what it knows of the data, on disk as in memory."""

import numpy as np
import pytest

from fastmlp.data import fingerprint, load_dataset

N = 3000
LABELS = np.arange(N) % 3


@pytest.fixture
def mark_of(tmp_path):
    """The fingerprint of rows in an .npy file, of which all are for training."""
    def mark_of(x, y=LABELS, memory=1000):
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", y)
        data = load_dataset(tmp_path / "x.npy", target=str(tmp_path / "y.npy"), validation=0, test=0,
                            data_memory=memory)
        return fingerprint.fingerprint(data)
    return mark_of


@pytest.mark.parametrize("memory", [1000, 10**9])
def test_a_fingerprint_knows_every_label_and_the_first_and_last_row(mark_of, memory):
    x = np.random.default_rng(0).integers(256, size=(N, 2), dtype=np.uint8)
    mark = mark_of(x, memory=memory)
    assert mark == mark_of(x, memory=memory)
    assert len(mark) == 20
    for row in (0, N - 1):
        changed = x.copy()
        changed[row, 1] ^= 1
        assert mark_of(changed, memory=memory) != mark
    labels = LABELS.copy()
    labels[7] = 0
    assert mark_of(x, labels, memory=memory) != mark
    assert mark_of(x.astype(np.float32), memory=memory) != mark


def test_the_same_bytes_in_another_shape_and_dtype_are_other_data(mark_of):
    assert mark_of(np.zeros((N, 8), np.uint8)) != mark_of(np.zeros((N, 2), np.float32))


def test_columns_of_other_names_are_other_data(tmp_path):
    marks = set()
    for names in ("a,b", "b,a"):
        (tmp_path / "own.csv").write_text("\n".join([f"{names},kind", *(f"{k},{k % 7},{k % 2}" for k in range(40))]))
        marks.add(fingerprint.fingerprint(load_dataset(tmp_path / "own.csv", target="kind")))
    assert len(marks) == 2


def test_of_rows_on_disk_a_thousand_evenly_spaced_ones_are_read(mark_of, monkeypatch):
    read, original = [], fingerprint.RowsOnDisk.__getitem__
    monkeypatch.setattr(fingerprint.RowsOnDisk, "__getitem__",
                        lambda self, rows: (read.append(rows), original(self, rows))[1])
    mark_of(np.zeros((N, 2), np.uint8))
    train = next(rows for rows in read if isinstance(rows, np.ndarray) and len(rows))
    assert len(train) == 1000
    assert set(np.diff(train)) <= {2, 3, 4}
    assert (train[0], train[-1]) == (0, N - 1)
