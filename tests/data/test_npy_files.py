"""Data in .npy files: small ones are arrays, large ones stay on disk, and the training cannot tell."""

import io

import numpy as np
import pytest

from fastmlp.data import load_dataset, read_examples
from fastmlp.data.rows_on_disk import RowsOnDisk
from fastmlp.errors import ConfigError, DataError

N = 120
LABELS = np.arange(N) % 3


@pytest.fixture
def save(tmp_path):
    """X and y as files; the paths."""
    def save(x, y=LABELS):
        np.save(tmp_path / "X.npy", x)
        np.save(tmp_path / "y.npy", y)
        return str(tmp_path / "X.npy"), str(tmp_path / "y.npy")
    return save


def some(dtype=np.uint8, shape=(N, 6)):
    return np.random.default_rng(0).integers(100, size=shape).astype(dtype)


@pytest.mark.parametrize(("dtype", "bytes_taken"), [("u1", 1), ("i2", 8), ("f4", 8), (">f8", 16), ("?", 8)])
def test_data_stay_on_disk_if_they_take_more_than_they_may(save, dtype, bytes_taken):
    x, y = save(some(dtype))
    kept, left = (load_dataset(x, target=y, data_memory=6 * N * bytes_taken - less) for less in (0, 1))
    for name in ("train", "val", "test"):
        in_memory, on_disk = getattr(kept, f"x_{name}"), getattr(left, f"x_{name}")
        assert isinstance(in_memory, np.ndarray)
        assert isinstance(on_disk, RowsOnDisk)
        assert in_memory.dtype == on_disk.dtype
        np.testing.assert_array_equal(on_disk, in_memory)
        np.testing.assert_array_equal(getattr(left, f"y_{name}"), getattr(kept, f"y_{name}"))
    assert (kept.name, kept.classes.tolist()) == (left.name, left.classes.tolist()) == ("X.npy", [0, 1, 2])


@pytest.mark.parametrize("large", [7, 2**24 + 1])
def test_wide_integers_are_as_exact_on_disk_as_in_memory(save, large):
    x = some(np.int64)
    x[5, 2] = large
    paths = save(x)
    for memory in (10**9, 1):
        assert read_examples(paths[0], target=paths[1]).x[5, 2] == large
        data = load_dataset(paths[0], target=paths[1], data_memory=memory, validation=0)
        assert large in np.concatenate([data.x_train[:], data.x_test[:]])


@pytest.mark.parametrize(("shape", "image_shape"), [((3, 4, 5), (3, 4, 5)), ((4, 5), (1, 4, 5))])
def test_images_in_npy_files_become_rows_and_labels_may_be_text(save, shape, image_shape):
    x, y = save(some(shape=(N, *shape)), np.array(["cat", "dog", "emu"] * 40))
    for memory in (10**9, 10):
        data = load_dataset(x, target=y, data_memory=memory)
        assert data.image_shape == image_shape
        assert data.x_train.shape[1] == np.prod(shape)
        assert data.classes.tolist() == ["cat", "dog", "emu"]


def test_npy_files_can_be_predicted_from_with_and_without_labels(save):
    x, y = save(some())
    assert read_examples(x).y is None
    np.testing.assert_array_equal(read_examples(x, target=y).y, np.arange(N) % 3)


def test_fortran_order_is_read_into_memory_and_refused_on_disk(save):
    x, y = save(np.asfortranarray(some()))
    np.testing.assert_array_equal(read_examples(x).x, some())
    with pytest.raises(DataError, match=r"X\.npy is in Fortran order.* more than the 700 bytes .*ascontiguousarray"):
        load_dataset(x, target=y, data_memory=700)


@pytest.mark.parametrize("memory", [10**9, 10])
@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN at row 77, column 4"), (-np.inf, "infinity .* row 77")])
def test_what_is_no_number_is_named_by_row_and_column(save, memory, value, message):
    x = some(np.float32)
    x[77, 4] = value
    paths = save(x)
    with pytest.raises(DataError, match=message):
        load_dataset(paths[0], target=paths[1], data_memory=memory)


@pytest.mark.parametrize("memory", [10**9, 10])
@pytest.mark.parametrize(("x", "y", "message"), [
    (some(), np.arange(N - 1), r"X\.npy has 120 rows, but the shape of its labels in .*y\.npy is \(119,\), not"),
    (some(), np.zeros((N, 3)), r"shape of its labels in .* is \(120, 3\)"),
    (some(), np.array([None] * N), "y.npy holds Python objects"),
    (some(object), np.zeros(N), "X.npy holds Python objects"),
    (some(complex), np.zeros(N), "X.npy has the dtype complex128; it must hold integers"),
    (some("U3"), np.zeros(N), "X.npy has the dtype <U3"),
    (some("M8[s]"), np.zeros(N), "X.npy has the dtype datetime64"),
    (some(shape=(N,)), np.zeros(N), r"X.npy has the shape \(120,\); it must be \(n, D\)"),
    (some(shape=(N, 1, 1, 1, 2)), np.zeros(N), "X.npy has the shape"),
    (some(), np.zeros(N), "the labels hold one class only"),
    (some(shape=(0, 6)), np.zeros(0), "X has no rows"),
    (some(shape=(N, 0)), np.zeros(N), "X has no columns"),
])
def test_unsuitable_arrays_are_refused(save, x, y, message, memory):
    paths = save(x, y)
    with pytest.raises(DataError, match=message):
        load_dataset(paths[0], target=paths[1], data_memory=memory)


@pytest.mark.parametrize("memory", [10**9, 10])
def test_a_file_that_is_cut_short_or_padded_is_refused(save, tmp_path, memory):
    x, y = save(some())
    whole = (tmp_path / "X.npy").read_bytes()
    for content in (whole[:-1], whole + b"\0"):
        (tmp_path / "X.npy").write_bytes(content)
        with pytest.raises(DataError, match=r"X\.npy claims the shape \(120, 6\) of uint8 but has 7(19|21) bytes"):
            load_dataset(x, target=y, data_memory=memory)


def test_no_damage_to_a_header_leads_to_anything_but_one_sentence(save, tmp_path):
    x, y = save(some())
    whole, rng, sentences = (tmp_path / "X.npy").read_bytes(), np.random.default_rng(0), []
    for _ in range(300):
        damaged = bytearray(whole[:rng.integers(1, 200)] if rng.random() < 0.2 else whole)
        for place in rng.integers(min(100, len(damaged)), size=3):
            damaged[place] = rng.integers(256)
        (tmp_path / "X.npy").write_bytes(damaged)
        try:
            load_dataset(x, target=y, data_memory=10)
        except DataError as error:
            sentences.append(str(error))
    assert len(sentences) > 200
    assert not any("\n" in sentence for sentence in sentences)


def test_a_header_that_lies_about_the_size_is_refused_before_allocating(tmp_path, save):
    _, y = save(some())
    for shape in ((10**12, 8), (2**62, 4), (-1, -720), (N, 5)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        (tmp_path / "X.npy").write_bytes(header.getvalue() + some().tobytes())
        with pytest.raises(DataError, match="claims the shape"):
            load_dataset(tmp_path / "X.npy", target=y)


@pytest.mark.parametrize("words", [
    "{'descr': '|u1', 'fortran_order': False, b'shape': (3, 4)}", "{'descr': ('u1',), 'fortran_order': 0, 'shape': 3}",
    "{'descr': [()], 'fortran_order': False, 'shape': (3, 4)}", "{'descr': {'u1': 2}, 'fortran_order': 0, 'shape': 3}",
    "{'descr': '1e999u1', 'fortran_order': False, 'shape': (3, 4)}", "[1, 2]", "(" * 5000])
def test_headers_that_numpy_trips_over_are_damage(tmp_path, save, words):
    _, y = save(some())
    length = len(words).to_bytes(2, "little")
    (tmp_path / "X.npy").write_bytes(b"\x93NUMPY\x01\x00" + length + words.encode() + bytes(99))
    with pytest.raises(DataError, match=r"X\.npy cannot be read"):
        load_dataset(tmp_path / "X.npy", target=y)


@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("descr", ["1i2", "2u1"])
def test_arrays_in_place_of_numbers_are_refused(tmp_path, save, descr, memory):
    _, y = save(some())
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": (N, 4)})
    (tmp_path / "X.npy").write_bytes(header.getvalue() + bytes(N * 4 * 2))
    with pytest.raises(DataError, match=r"X\.npy holds .* in place of each number"):
        load_dataset(tmp_path / "X.npy", target=y, data_memory=memory)


def test_labels_are_asked_for_by_file(save, tmp_path):
    x, y = save(some())
    with pytest.raises(DataError, match=r"target is not given: name the \.npy file that holds the labels of .*X\.npy"):
        load_dataset(x)
    with pytest.raises(DataError, match=r"there is no file .*z\.npy, which should hold the labels of .*X\.npy"):
        load_dataset(x, target=str(tmp_path / "z.npy"))
    with pytest.raises(DataError, match=r"target is label, but the labels of .* must be in an \.npy file, too"):
        load_dataset(x, target="label")
    (tmp_path / "y.npy").write_text("0 1 2")
    with pytest.raises(DataError, match=r"y\.npy cannot be read as an \.npy file"):
        load_dataset(x, target=y)


def test_a_limit_of_memory_is_refused_where_data_cannot_stay_on_disk(tmp_path):
    np.savez(tmp_path / "rows.npz", X=some(), y=np.arange(N) % 3)
    for data in ("digits", "cifar10", tmp_path / "rows.npz"):
        with pytest.raises(ConfigError, match=r"data_memory is given, but .* cannot stay on disk: only \.npy and"):
            load_dataset(data, data_memory=10**9)
