"""The two doors, load_dataset and read_examples: parts, defaults and contradictions."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import fastmlp.data
from fastmlp.data import load_dataset, read_examples
from fastmlp.data.cifar10 import BINARY
from fastmlp.errors import ConfigError, DataError


def sizes(data):
    assert len(data.x_train) == len(data.y_train)
    assert len(data.x_val) == len(data.y_val)
    assert len(data.x_test) == len(data.y_test)
    return len(data.x_train), len(data.x_val), len(data.x_test)


def test_digits_have_their_documented_form():
    data = load_dataset()
    assert sizes(data) == (1294, 144, 359)
    assert data.name == "digits"
    assert data.x_train.dtype == data.x_test.dtype == np.uint8
    assert data.y_train.dtype == np.int64
    assert data.x_train.max() == 16
    assert data.image_shape == (1, 8, 8)
    assert data.classes.tolist() == list(range(10))
    for labels in (data.y_train, data.y_val, data.y_test):
        counts = np.bincount(labels, minlength=10)
        assert counts.max() - counts.min() <= 0.05 * len(labels)


def test_parts_are_disjoint_and_together_the_whole(tmp_path):
    np.savez(tmp_path / "rows.npz", X=np.arange(200.0)[:, None], y=np.arange(200) % 4)
    data = load_dataset(tmp_path / "rows.npz", validation=30, test=0.25)
    assert sizes(data) == (120, 30, 50)
    rows = np.concatenate([data.x_train, data.x_val, data.x_test]).ravel()
    np.testing.assert_array_equal(np.sort(rows), np.arange(200))
    for x, y in ((data.x_train, data.y_train), (data.x_val, data.y_val), (data.x_test, data.y_test)):
        np.testing.assert_array_equal(x.ravel() % 4, y)


def test_seed_changes_validation_but_never_the_test_part():
    first, again, other = (load_dataset(validation=0.2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.x_val, again.x_val)
    assert not np.array_equal(first.x_val, other.x_val)
    np.testing.assert_array_equal(first.x_test, other.x_test)
    np.testing.assert_array_equal(load_dataset(validation=0).x_test, other.x_test)


def test_zero_leaves_a_part_empty():
    data = load_dataset(validation=0, test=0)
    assert sizes(data) == (1797, 0, 0)
    assert data.x_val.shape == (0, 64)


def test_own_test_part_of_an_npz_is_used_whole(tmp_path):
    x, y = np.arange(40.0)[:, None], np.array(["b", "a"] * 20)
    np.savez(tmp_path / "own.npz", X=x, y=y, X_test=x[:3] + 100, y_test=y[:3])
    data = load_dataset(tmp_path / "own.npz")
    assert sizes(data) == (36, 4, 3)
    assert data.name == "own.npz"
    assert data.x_test.ravel().tolist() == [100, 101, 102]
    assert data.classes[data.y_test].tolist() == ["b", "a", "b"]
    for test in (0, 5, 0.2):
        with pytest.raises(ConfigError, match="test part of its own"):
            load_dataset(tmp_path / "own.npz", test=test)
    assert data.brings_test
    np.savez(tmp_path / "own.npz", X=x, y=y)
    assert not load_dataset(tmp_path / "own.npz").brings_test


def test_own_test_part_must_be_usable(tmp_path):
    x, y = np.arange(40.0)[:, None], np.arange(40) % 2
    np.savez(tmp_path / "unknown.npz", X=x, y=y, X_test=x, y_test=y + 1)
    with pytest.raises(DataError, match="label 2 is not among the 2 classes"):
        load_dataset(tmp_path / "unknown.npz")
    np.savez(tmp_path / "nan.npz", X=x, y=y, X_test=x * np.nan, y_test=y)
    with pytest.raises(DataError, match="X_test contains NaN at row 0"):
        load_dataset(tmp_path / "nan.npz")
    np.savez(tmp_path / "bare.npz", X=x, y=y, X_test=x)
    with pytest.raises(DataError, match="X_test but no y_test"):
        load_dataset(tmp_path / "bare.npz")
    np.savez(tmp_path / "no_labels.npz", X=x)
    with pytest.raises(DataError, match="no array y"):
        load_dataset(tmp_path / "no_labels.npz")


def test_csv_and_parquet_go_through(tmp_path):
    import pandas

    frame = pandas.DataFrame({"a": np.arange(20) / 2, "kind": ["x", "y"] * 10})
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.to_parquet(tmp_path / "table.parquet")
    for suffix in ("csv", "parquet"):
        data = load_dataset(tmp_path / f"table.{suffix}", target="kind")
        assert sizes(data) == (14, 2, 4)
        assert data.classes.tolist() == ["x", "y"]
        assert data.feature_names == ("a",)
        with pytest.raises(DataError, match=r"target is not given.* columns are a, kind"):
            load_dataset(tmp_path / f"table.{suffix}")
        with pytest.raises(DataError, match="no column 'class'; its columns are a, kind"):
            load_dataset(tmp_path / f"table.{suffix}", target="class")


def test_faults_of_a_table_are_named_by_column(tmp_path):
    (tmp_path / "table.csv").write_text("a,kind\n1,x\ninf,y\n")
    with pytest.raises(DataError, match=r"inf.* at row 1, column 'a'"):
        load_dataset(tmp_path / "table.csv", target="kind")
    (tmp_path / "table.csv").write_text("a,kind\n1,0.5\n2,0.25\n")
    with pytest.raises(DataError, match="regression"):
        load_dataset(tmp_path / "table.csv", target="kind")
    (tmp_path / "table.csv").write_text("a,kind\n1,x\n2,x\n")
    with pytest.raises(DataError, match="one class only, 'x'"):
        load_dataset(tmp_path / "table.csv", target="kind")


@pytest.mark.parametrize("name", ["mnist", "", "table.txt", "digits.npz.gz"])
def test_unknown_data_names_what_is_possible(name):
    with pytest.raises(DataError, match=r"digits, cifar10, or a file in \.npz, \.npy, \.csv, \.parquet"):
        load_dataset(name)
    with pytest.raises(DataError, match=r"digits, cifar10, or a file in"):
        read_examples(name)


def test_absent_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*absent\.csv"):
        load_dataset(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "kind"}, "target is given"),
        ({"train_batches": (1,)}, "for cifar10 only"),
        ({"validation_batches": (1,)}, "for cifar10 only"),
        ({"validation": -1}, "validation is -1"),
        ({"test": 1.5}, r"test is 1\.5"),
    ],
)
def test_contradicting_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load_dataset("digits", **options)


def test_parts_that_cannot_be_filled_are_refused():
    with pytest.raises(DataError, match=r"1797 of 1797 .* for test: .* so 1787 is the most"):
        load_dataset(test=1797)
    with pytest.raises(DataError, match="for validation"):
        load_dataset(validation=1438)


@pytest.mark.parametrize("name", ["npz", "cifar10"])
def test_loading_takes_little_more_memory_than_the_data(small, tmp_path, monkeypatch, name):
    monkeypatch.setattr("fastmlp.data.split.REORDERED_BYTES", 1 << 17)
    if name == "npz":
        x = np.random.default_rng(0).integers(256, size=(4000, 500), dtype=np.uint8)
        np.savez(tmp_path / "rows.npz", X=x, y=np.arange(4000) % 4)
        source, size = {"data": tmp_path / "rows.npz"}, x.nbytes
    else:
        small.write_folder(tmp_path / BINARY.folder, BINARY)
        source, size = {"data": "cifar10", "data_dir": tmp_path, "validation": 50}, 6 * small.rows * 3072
    load_dataset(**source)      # what is imported on the way does not count
    tracemalloc.start()
    load_dataset(**source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * size


@pytest.fixture
def cifar10_dir(small, tmp_path):
    small.write_folder(tmp_path / BINARY.folder, BINARY)
    return tmp_path


def test_cifar10_draws_validation_from_its_training_batches(small, cifar10_dir):
    data = load_dataset("cifar10", data_dir=cifar10_dir, validation=20)
    assert sizes(data) == (5 * small.rows - 20, 20, small.rows)
    np.testing.assert_array_equal(np.bincount(data.y_val), np.full(10, 2))
    np.testing.assert_array_equal(data.x_test, small.images["test_batch"])
    assert data.image_shape == (3, 32, 32)
    assert (data.name, data.classes[3]) == ("cifar10", "cat")
    everything = {row.tobytes() for name in small.images if name != "test_batch" for row in small.images[name]}
    assert {row.tobytes() for row in np.concatenate([data.x_train, data.x_val])} == everything


def test_cifar10_default_validation_is_5000(cifar10_dir):
    with pytest.raises(DataError, match="5000 of 200 examples cannot be set aside for validation"):
        load_dataset("cifar10", data_dir=cifar10_dir)


def test_cifar10_validation_batches_are_used_whole(small, cifar10_dir):
    data = load_dataset("cifar10", data_dir=cifar10_dir, train_batches=[1], validation_batches=[2])
    np.testing.assert_array_equal(data.x_train, small.images["data_batch_1"])
    np.testing.assert_array_equal(data.x_val, small.images["data_batch_2"])
    np.testing.assert_array_equal(data.y_val, small.labels["data_batch_2"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"train_batches": (1, 6)}, DataError, "no batch 6"),
        ({"train_batches": (0,)}, DataError, "no batch 0"),
        ({"train_batches": ()}, DataError, "train_batches is empty"),
        ({"train_batches": (1, 1)}, DataError, "batch 1 is used twice"),
        ({"train_batches": (1, 2), "validation_batches": (2,)}, DataError, "batch 2 is used twice"),
        ({"train_batches": (1,), "validation_batches": (2,), "validation": 5}, ConfigError, "give one of them"),
        ({"test": 100}, ConfigError, "test part of its own"),
        ({"target": "kind"}, ConfigError, "target is given"),
    ],
)
def test_cifar10_refuses_batches_and_options_that_make_no_sense(cifar10_dir, options, error, message):
    with pytest.raises(error, match=message):
        load_dataset("cifar10", data_dir=cifar10_dir, **options)


def test_read_examples_gives_the_test_part_of_known_data(small, cifar10_dir):
    digits = load_dataset("digits")
    examples = read_examples("digits")
    np.testing.assert_array_equal(examples.x, digits.x_test)
    np.testing.assert_array_equal(examples.y, digits.classes[digits.y_test])
    images = read_examples("cifar10", data_dir=cifar10_dir)
    np.testing.assert_array_equal(images.x, small.images["test_batch"])
    assert images.y[0] == load_dataset("cifar10", data_dir=cifar10_dir, validation=0).classes[
        small.labels["test_batch"][0]
    ]


def test_read_examples_gives_all_rows_of_a_file(tmp_path):
    np.savez(tmp_path / "rows.npz", X=np.eye(3))
    assert read_examples(tmp_path / "rows.npz").y is None
    np.savez(tmp_path / "rows.npz", X=np.eye(3), y=np.zeros(3), X_test=np.eye(3)[:1])
    assert read_examples(tmp_path / "rows.npz").x.shape == (1, 3)
    (tmp_path / "table.csv").write_text("a,kind\n1,x\n2,x\n")
    examples = read_examples(tmp_path / "table.csv", target="kind")
    assert examples.y.tolist() == ["x", "x"]  # one class is enough to predict
    (tmp_path / "table.csv").write_text("a\ninf\n")
    with pytest.raises(DataError, match="column 'a'"):
        read_examples(tmp_path / "table.csv")


def test_import_brings_no_optional_or_slow_package():
    package = Path(fastmlp.data.__file__).parent.parent
    program = (
        "import sys, types; root = types.ModuleType('fastmlp'); root.__path__ = [sys.argv[1]]\n"
        "sys.modules['fastmlp'] = root\n"  # without fastmlp/__init__.py, which is not what is tested here
        "import fastmlp.data, fastmlp.data.standardize\n"
        "print(*{'pandas', 'pyarrow', 'pooch', 'sklearn', 'scipy', 'requests'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program, package], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
