"""Rows in a file: they read like an array, in few long pieces, without taking memory for more than one of them."""

import os
import tracemalloc
import warnings

import numpy as np
import pytest

from fastmlp.data import rows_on_disk
from fastmlp.data.rows_on_disk import OpenFile, RowsOnDisk
from fastmlp.errors import DataError

HEADER = 12     # bytes before the first row


@pytest.fixture
def put(tmp_path):
    """An array as rows of a file."""
    def put(x, dtype=None, memory=1 << 20):
        path = tmp_path / "rows"
        path.write_bytes(bytes(HEADER) + x.tobytes())
        return RowsOnDisk(OpenFile(path.open("rb", buffering=0), str(path)), HEADER, x.dtype, x.shape[1],
                          np.arange(len(x)), np.dtype(dtype or x.dtype), memory)
    return put


@pytest.fixture
def calls(monkeypatch):
    """How many bytes each call read."""
    lengths, fill = [], OpenFile.fill
    monkeypatch.setattr(OpenFile, "fill", lambda *a: (lengths.append(a[1].nbytes), fill(*a))[1])
    return lengths


def numbers(n, d, dtype=np.uint8):
    return np.random.default_rng(0).integers(100, size=(n, d)).astype(dtype)


@pytest.mark.parametrize(("piece", "gap"), [(1, 0), (40, 0), (40, 30), (100, 1000), (1 << 20, 1 << 14)])
@pytest.mark.parametrize(("stored", "handed_out"), [("u1", "u1"), ("i2", "f4"), (">f8", "f8"), ("<f4", "f4"),
                                                    ("?", "f4"), (">u4", "f8"), ("f2", "f4")])
def test_rows_on_disk_read_like_an_array(put, monkeypatch, piece, gap, stored, handed_out):
    monkeypatch.setattr(rows_on_disk, "PIECE_BYTES", piece)
    monkeypatch.setattr(rows_on_disk, "GAP_BYTES", gap)
    x = numbers(60, 5, stored)
    rows, rng = put(x, handed_out), np.random.default_rng(1)
    some = np.sort(rng.permutation(60)[:45])
    for whole, array in ((rows, x), (rows.part(some), x[some]), (rows.part(some).part(np.arange(3, 40, 2)),
                                                                 x[some][3:40:2])):
        assert (whole.shape, len(whole), whole.ndim) == (array.shape, len(array), 2)
        assert whole.nbytes == array.size * np.dtype(handed_out).itemsize
        for key in (slice(None), slice(2, 9), slice(4, 4), slice(None, 3), slice(-5, None), slice(9, 2, -3), [4, 0, 2],
                    [7, 7, 1, 9, 9], np.arange(0, 15, 3), rng.permutation(len(array)), []):
            got = whole[key]
            assert got.dtype == handed_out
            np.testing.assert_array_equal(got, array[np.asarray(key, int) if isinstance(key, list) else key])
        np.testing.assert_array_equal(np.asarray(whole), array)


def test_rows_that_lie_together_are_read_together_and_small_gaps_are_read_along(put, calls, monkeypatch):
    monkeypatch.setattr(rows_on_disk, "PIECE_BYTES", 1000)
    monkeypatch.setattr(rows_on_disk, "GAP_BYTES", 50)
    rows = put(numbers(1000, 10))
    for wanted, lengths in ((np.arange(100), [1000]), (np.arange(50, 250), [500, 1000, 500]),
                            (np.delete(np.arange(100), [7, 8, 9, 50]), [1000]), (np.arange(0, 1000, 10), [10] * 100),
                            (np.array([3, 90, 91, 95]), [10, 60]), (np.array([99, 100]), [10, 10])):
        rows[wanted]
        assert calls == lengths
        calls.clear()


def test_rows_as_they_are_stored_are_read_to_their_place_without_a_copy(put, monkeypatch):
    rows, out, places, fill = put(numbers(100, 10)), np.empty((20, 10), np.uint8), [], OpenFile.fill
    monkeypatch.setattr(OpenFile, "fill", lambda self, to, offset: (places.append(to), fill(self, to, offset)))
    rows.read(np.arange(40, 60), out)
    assert all(np.shares_memory(place, out) for place in places)
    np.testing.assert_array_equal(out, numbers(100, 10)[40:60])


def test_reading_takes_memory_for_one_piece(put, monkeypatch):
    monkeypatch.setattr(rows_on_disk, "PIECE_BYTES", 10_000)
    rows = put(numbers(4000, 100, np.int32), np.float64)
    wanted, out = np.delete(np.arange(4000), np.arange(0, 4000, 7)), np.empty((3428, 100))
    tracemalloc.start()
    rows.read(wanted, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000       # row numbers, and a piece or two; the rows take 2.7 MB
    np.testing.assert_array_equal(out, rows[wanted])


def test_what_is_done_to_rows_is_told_their_numbers_in_the_file(put):
    x = numbers(20, 3)
    rows = put(x).part(np.array([2, 5, 6, 19])).converted(lambda rows, at: rows + at[:, None] / 4, np.float32)
    np.testing.assert_array_equal(rows[[3, 1]], np.float32(x[[19, 5]] + [[19 / 4], [5 / 4]]))
    assert rows[:0].shape == (0, 3)


def test_a_file_that_became_shorter_is_an_error_in_one_sentence(put, tmp_path):
    rows = put(numbers(100, 10))
    with (tmp_path / "rows").open("r+b") as file:
        file.truncate(500)
    assert rows[:40].shape == (40, 10)
    with pytest.raises(DataError, match=r"rows has become shorter since it was opened: start again"):
        rows[40:60]


def test_the_file_is_closed_when_nobody_reads_it_any_more(put):
    rows = put(numbers(10, 2))
    file, part = rows.file._file, rows.part(np.arange(3))
    with warnings.catch_warnings(action="error"):
        del rows
        assert not file.closed
        del part
        assert file.closed


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_processes_read_the_same_open_file_without_disturbing_each_other(tmp_path):
    expected = np.arange(4000, dtype=np.uint8).reshape(400, 10)
    path = tmp_path / "rows"
    path.write_bytes(expected.tobytes())
    rows = RowsOnDisk(OpenFile(path.open("rb", buffering=0), "rows"), 0, np.dtype(np.uint8), 10, np.arange(400),
                      np.dtype(np.uint8), 1 << 20)

    def wrong():
        numbers = np.random.default_rng(os.getpid()).integers(400, size=(300, 7))
        return sum(not np.array_equal(rows[some], expected[some]) for some in numbers)

    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            os._exit(min(wrong(), 100))
        children.append(child)
    assert wrong() == 0
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
