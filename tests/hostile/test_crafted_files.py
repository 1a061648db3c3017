"""Files that someone made on purpose: what they would do elsewhere, and the sentence that they meet here."""

import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from safetensors.numpy import save

from fastmlp import MLPClassifier, load_dataset
from fastmlp.config import TrainOptions
from fastmlp.data import cifar10, read_examples
from fastmlp.errors import CheckpointError, ConfigError, DataError, FastMLPError, ModelFileError
from fastmlp.model import load_model
from fastmlp.options import read_toml
from fastmlp.tensor_files import HEADER
from fuzz import corpus, tensor_samples
from fuzz.tensor_samples import BACKEND


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


# ------------------------------------------------------------------------------------------------- code in pickles

@pytest.mark.parametrize("place", ["X", "y", "X_test"])
def test_object_arrays_in_an_npz_are_not_unpickled(tmp_path, place):
    marker = tmp_path / "executed"
    arrays = {"X": np.eye(12, 4), "y": np.arange(12) % 3, "X_test": np.eye(3, 4), "y_test": np.arange(3)}
    arrays[place] = np.array([Harm(marker)] * len(arrays[place]), object)
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=rf"data\.npz: {place} holds Python objects"):
        load_dataset(tmp_path / "data.npz")
    assert not marker.exists()
    with np.load(tmp_path / "data.npz", allow_pickle=True) as elsewhere:
        assert len(elsewhere[place])
    assert marker.exists()


def test_object_arrays_in_npy_files_are_not_unpickled(tmp_path):
    marker = tmp_path / "executed"
    np.save(tmp_path / "X.npy", np.eye(12, 4))
    np.save(tmp_path / "y.npy", np.array([Harm(marker)] * 12, object), allow_pickle=True)
    with pytest.raises(DataError, match=r"y\.npy holds Python objects"):
        load_dataset(tmp_path / "X.npy", target=str(tmp_path / "y.npy"))
    with pytest.raises(DataError, match=r"y\.npy holds Python objects"):
        load_dataset(tmp_path / "y.npy", target=str(tmp_path / "X.npy"))
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".csv", ".parquet"])
def test_a_pickle_under_another_name_is_not_unpickled(tmp_path, suffix):
    marker, path = tmp_path / "executed", tmp_path / f"data{suffix}"
    path.write_bytes(pickle.dumps(Harm(marker)))
    with pytest.raises(DataError, match=f"data{suffix}"):
        load_dataset(path, target=None if suffix == ".npz" else str(path) if suffix == ".npy" else "kind")
    with pytest.raises(ModelFileError, match=f"data{suffix}"):
        load_model(path, BACKEND)
    assert not marker.exists()


def test_an_extension_type_of_arrow_is_not_unpickled(tmp_path):
    marker = tmp_path / "executed"
    field = pyarrow.field("a", pyarrow.binary(), metadata={
        "ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Harm(marker))})
    table = pyarrow.Table.from_arrays([pyarrow.array([b"1"] * 12), pyarrow.array([0, 1] * 6)],
                                      schema=pyarrow.schema([field, pyarrow.field("kind", pyarrow.int64())]))
    parquet.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"data\.parquet: column 'a'"):
        load_dataset(tmp_path / "data.parquet", target="kind")
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_headers_of_python_2_are_read_without_a_warning(tmp_path, suffix):
    content = corpus.npy(np.eye(12, 4)).replace(b"(12, 4), }  ", b"(12L, 4L), }")
    assert b"12L" in content
    (tmp_path / f"X{suffix}").write_bytes(corpus.zipped()(content) if suffix == ".npz" else content)
    (tmp_path / "y.npy").write_bytes(corpus.labels()[0])
    assert read_examples(tmp_path / f"X{suffix}").x.tolist() == np.eye(12, 4).tolist()


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_type_by_its_old_name_is_no_warning(tmp_path, suffix):
    y = corpus.npy(np.array([b"cat", b"dog"] * 6)).replace(b"'|S3'", b"'|a3'")
    if suffix == ".npz":
        with zipfile.ZipFile(tmp_path / "X.npz", "w") as archive:
            archive.writestr("X.npy", corpus.npy(np.eye(12, 4)))
            archive.writestr("y.npy", y)
    else:
        np.save(tmp_path / "X.npy", np.eye(12, 4))
        (tmp_path / "y.npy").write_bytes(y)
    with pytest.raises(DataError, match=rf"{suffix}: the labels have the dtype \|S3; they must"):
        load_dataset(tmp_path / f"X{suffix}", target=None if suffix == ".npz" else str(tmp_path / "y.npy"))


# --------------------------------------------------------------------------------------------------- names and links

@pytest.mark.parametrize("name", ["../X.npy", "/tmp/X.npy", "..\\X.npy", "X.npy/../../y.npy", "C:\\X.npy"])
def test_names_in_an_npz_lead_nowhere(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), corpus.npy(np.eye(12, 4)))
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(DataError, match="has no array X"):
        load_dataset(tmp_path / "data.npz")
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_an_array_that_is_a_symbolic_link_is_not_followed(tmp_path):
    np.save(tmp_path / "secret.npy", np.eye(12, 4))
    link = zipfile.ZipInfo("X.npy")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr(link, str(tmp_path / "secret.npy"))
        archive.writestr("y.npy", corpus.labels()[0])
    with pytest.raises(DataError, match=r"data\.npz cannot be read"):
        load_dataset(tmp_path / "data.npz")


@pytest.mark.parametrize("layout", cifar10.LAYOUTS, ids=lambda layout: layout.folder)
@pytest.mark.parametrize("target", ["/dev/zero", "."])
def test_a_batch_that_leads_to_a_device_or_folder_is_refused(tmp_path, layout, target):
    (tmp_path / layout.folder).mkdir()
    (tmp_path / layout.folder / f"data_batch_1{layout.suffix}").symlink_to(target)
    with pytest.raises(DataError, match=r"data_batch_1(\.bin)? is not a file"):
        cifar10.read_parts([["data_batch_1"]], tmp_path)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".csv", ".parquet"])
def test_data_that_lead_to_a_device_are_refused(tmp_path, suffix):
    (tmp_path / f"data{suffix}").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=f"there is no file .*data{suffix}"):
        read_examples(tmp_path / f"data{suffix}")
    with pytest.raises(ModelFileError, match="no such file"):
        load_model(tmp_path / f"data{suffix}", BACKEND)


def test_a_configuration_that_leads_to_a_device_is_refused_at_its_limit(tmp_path):
    (tmp_path / "options.toml").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=r"options\.toml: has more than 16384 bytes"):
        read_toml(tmp_path / "options.toml", TrainOptions)


# ---------------------------------------------------------------------------------------------------------- Parquet

def pandas_says(tmp_path, **words):
    """A good Parquet file in which pandas' own description of it says something else."""
    table = pyarrow.Table.from_pandas(corpus.frame())
    described = {**json.loads(table.schema.metadata[b"pandas"]), **words}
    path = tmp_path / "data.parquet"
    parquet.write_table(table.replace_schema_metadata({b"pandas": json.dumps(described).encode()}), path)
    return path


@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("words", [
    {"columns": [{"name": "a", "field_name": "a", "pandas_type": "float64", "numpy_type": "float65"}]},
    {"columns": [{}]}, {"columns": 3}, {"index_columns": [{"kind": "range"}]}, {"index_columns": 3},
    {"index_columns": None}, {"column_indexes": [{"pandas_type": "datetime"}]},
    {"index_columns": ["a", "b", "kind", "absent", 7]},
], ids=str)
def test_what_pandas_says_about_a_parquet_file_is_not_believed(tmp_path, words, memory):
    path = pandas_says(tmp_path, **words)
    if "absent" in str(words):      # all columns would be names of rows
        with pytest.raises(DataError, match=r"data\.parquet has no column 'kind'"):
            load_dataset(path, target="kind", data_memory=memory)
    else:
        assert load_dataset(path, target="kind", data_memory=memory).feature_names == ("a", "b")


@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("words", [b"", b"[", b"[" * 5000, b"\xff", b"3"])
def test_what_pandas_says_may_be_no_json(tmp_path, words, memory):
    table = pyarrow.Table.from_pandas(corpus.frame()).replace_schema_metadata({b"pandas": words})
    parquet.write_table(table, tmp_path / "data.parquet")
    assert load_dataset(tmp_path / "data.parquet", target="kind", data_memory=memory).feature_names == ("a", "b")


def test_tensors_in_a_column_are_refused_as_lists_are(tmp_path):
    storage = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.zeros(48)), 4)
    tensors = pyarrow.ExtensionArray.from_storage(pyarrow.fixed_shape_tensor(pyarrow.float64(), [4]), storage)
    parquet.write_table(pyarrow.table({"a": tensors, "kind": [0, 1] * 6}), tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"column 'a' holds values of the type .*; inputs and labels must be single"):
        load_dataset(tmp_path / "data.parquet", target="kind")


# ----------------------------------------------------------------------------------------------------------- models

def model_file(tmp_path, change):
    header, tensors = tensor_samples.opened(tensor_samples.models()[0])
    change(header, tensors)
    path = tmp_path / "model.safetensors"
    path.write_bytes(tensor_samples.closed(header, tensors))
    return path


@pytest.mark.parametrize("change", [
    {"l2": 1e300}, {"l2": float("inf")}, {"classes": [0.5, float("nan"), 1.5], "classes_dtype": "<f8"},
    {"classes": [1.0, 2.0, 1e30], "classes_dtype": "<f2"}, {"classes": [1, 2, 300], "classes_dtype": "|i1"},
    {"classes": [0.1, 2.0, 3.0], "classes_dtype": "<f4"}, {"classes_dtype": "a5"}, {"classes_dtype": None},
    {"classes_dtype": {"names": [], "formats": []}}, {"classes_dtype": "(9,9)U5"}, {"classes": ["a", "a\0", "b"]},
], ids=lambda change: str(change)[:60])
def test_headers_that_lie_are_refused_without_a_warning(tmp_path, change):
    path = model_file(tmp_path, lambda header, _: header.update(change))
    with pytest.raises(ModelFileError, match=r"model\.safetensors: not a whole fastmlp model"):
        load_model(path, BACKEND)


def test_a_header_nested_as_deeply_as_can_be_read_is_refused(tmp_path):
    """Reading takes a few levels of Python's stack less than computing the digest does."""
    path = tmp_path / "model.safetensors"
    header, tensors = tensor_samples.opened(tensor_samples.models()[0])
    text = json.dumps(header)[:-1]
    for depth in range(700, 1000):
        words = f'{text}, "deep": {"[" * depth}{"]" * depth}}}'
        path.write_bytes(save(tensors, metadata={HEADER: words}))
        with pytest.raises(ModelFileError, match=r"model\.safetensors"):
            load_model(path, BACKEND)


def test_labels_of_a_header_may_be_long(tmp_path):
    path = model_file(tmp_path, lambda header, _: header.update(classes=["a" * 10**5, "b", "c"], classes_dtype="<U1"))
    assert load_model(path, BACKEND).classes.tolist() == ["a" * 10**5, "b", "c"]


def test_weights_whose_outputs_are_no_numbers_predict_nothing(tmp_path):
    def enlarge(header, tensors):
        for name in ("w0", "w1", "gamma0"):
            tensors[name] = np.full_like(tensors[name], 3e38)
    model = load_model(model_file(tmp_path, enlarge), BACKEND)
    with pytest.raises(DataError, match="outputs for row 0 of X are too large for float32"):
        model.predict_proba(np.ones((2, 4)))


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "BOOL", "C64", "F4"])
def test_tensors_of_other_types_are_refused(tmp_path, dtype):
    content = tensor_samples.models()[0]
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + length])
    header["w0"]["dtype"] = dtype
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length:])
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        load_model(path, BACKEND)
    bits = {"BF16": 16, "I8": 8, "BOOL": 8, "C64": 64, "F4": 4}.get(dtype, 8)
    names = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    place = 0
    for name in names:              # now with offsets that suit the type
        first, last = header[name]["data_offsets"]
        size = (last - first) * bits // 32 if name == "w0" else last - first
        header[name]["data_offsets"] = [place, place + size]
        place += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(place))
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        load_model(path, BACKEND)


@pytest.mark.parametrize("history", [
    {"n_iter_": "many"}, {"t_": -1}, {"n_iter_": True}, {"loss_curve_": "steep"}, {"loss_": [1.0]}, {"best_loss_": {}},
    {"validation_scores_": [None]}, {"loss_curve_": {"a": 1}}, [], "none",
], ids=str)
def test_a_history_that_is_none_is_refused(tmp_path, history):
    header, tensors = tensor_samples.opened(tensor_samples.models()[2])
    header["extra"]["history"] = {**header["extra"]["history"], **history} if isinstance(history, dict) else history
    path = tmp_path / "model.safetensors"
    path.write_bytes(tensor_samples.closed(header, tensors))
    with pytest.raises(ModelFileError, match=r"model\.safetensors: its parameters"):
        MLPClassifier.load(path)


@pytest.mark.parametrize("parameters", [
    {"alpha": 10**400}, {"random_state": 10**400}, {"random_state": -1}, {"max_iter": 1e300}, {"verbose": [[]]},
    {"hidden_layer_sizes": [0]}, {"tol": -(10**400)}, {"beta_1": 10**400},
    {"class_weight": {"pairs": [[[1], 2]]}},
    {"class_weight": {"pairs": 3}}, {"unknown": 1}, {"standardize": {"pairs": []}}, {"n_members": 10**9},
], ids=lambda change: str(change)[:60])
def test_parameters_that_are_none_are_refused(tmp_path, parameters):
    header, tensors = tensor_samples.opened(tensor_samples.models()[2])
    header["extra"]["parameters"].update(parameters)
    path = tmp_path / "model.safetensors"
    path.write_bytes(tensor_samples.closed(header, tensors))
    with pytest.raises(ModelFileError, match=r"model\.safetensors: its parameters"):
        MLPClassifier.load(path)


@pytest.mark.parametrize("change", [
    {"rate_factor": 1.1e308}, {"rate_factor": float("nan")}, {"rate_factor": -1.0}, {"rate_factor": "half"},
    {"generators": []}, {"generators": [{}]}, {"good": None}, {"rows": [[1]]}, {"frozen": [3]}, {"snapshots": 3},
], ids=str)
def test_a_state_that_no_training_has_is_refused(tmp_path, change):
    header, tensors = tensor_samples.opened(tensor_samples.checkpoints()[0])
    header["state"].update(change)
    path = tmp_path / "checkpoint-000.safetensors"
    path.write_bytes(tensor_samples.closed(header, tensors))
    with pytest.raises(CheckpointError, match=r"checkpoint-000\.safetensors: not a whole checkpoint"):
        tensor_samples.read_checkpoint(path)


# ---------------------------------------------------------------------------------------------------- words of others

@pytest.mark.parametrize("make", [
    lambda path: path.with_suffix(".csv").write_text("a\x1b[2J,b\n1,2\n"),
    lambda path: parquet.write_table(pyarrow.table({"a\x1b[2J": [1], "b": [2]}), path.with_suffix(".parquet")),
], ids=["CSV", "Parquet"])
def test_no_sentence_steers_the_terminal(tmp_path, make):
    make(tmp_path / "data")
    (path,) = tmp_path.iterdir()
    with pytest.raises(FastMLPError, match=r"its columns are a\\x1b\[2J, b") as caught:
        load_dataset(path, target="kind")
    assert str(caught.value).isprintable()


def test_long_words_do_not_make_a_sentence_long(tmp_path):
    (tmp_path / "data.csv").write_text("a,kind\n1," + "x" * 100_000 + "\n2,y\n")
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path / "data.csv", target="x" * 50_000)
    assert len(str(caught.value)) < 2000


def test_faults_found_after_reading_name_the_file(tmp_path):
    np.savez(tmp_path / "data.npz", X=np.full((12, 2), np.nan), y=np.arange(12) % 3)
    for read in (load_dataset, read_examples):
        with pytest.raises(DataError, match=r"data\.npz: X contains NaN at row 0"):
            read(tmp_path / "data.npz")
    (tmp_path / "data.csv").write_text("a,kind\n1,x\n2,y\n")
    with pytest.raises(DataError, match=r"data\.csv: .* cannot be set aside"):
        load_dataset(tmp_path / "data.csv", target="kind")


def test_the_file_is_named_where_one_of_its_values_is_out_of_range(tmp_path):
    for text, words in (("hidden = [5, 99999999999]", "--hidden 99999999999: must be at most"),
                        ("train-batches = ['1-9']", "--train-batches 6: must be at most 5"),
                        ("members = 1" + 401 * "0", "--members 10+: must be at most"),
                        ("lr = nan", "--lr nan: must be a finite number")):
        (tmp_path / "options.toml").write_text(text)
        with pytest.raises(ConfigError, match=f"--config .*options.toml: {words}"):
            read_toml(tmp_path / "options.toml", TrainOptions)


def test_no_memory_is_said_in_a_sentence(tmp_path, monkeypatch):
    np.savez(tmp_path / "data.npz", X=np.eye(12, 4), y=np.arange(12) % 3)
    monkeypatch.setattr("fastmlp.data.npz.free_memory", lambda: 100)
    with pytest.raises(DataError, match=r"data\.npz takes 736 bytes of memory, and 100 are free"):
        load_dataset(tmp_path / "data.npz")

    def fail(*_):
        raise MemoryError("Unable to allocate 9 TiB")
    monkeypatch.setattr("fastmlp.data.loading.read_npz", fail)
    with pytest.raises(DataError, match=r"data\.npz takes more memory than there is \(Unable to allocate 9 TiB\)"):
        load_dataset(tmp_path / "data.npz")


@pytest.mark.parametrize("order", "<>")
def test_text_beyond_the_last_character_is_refused_before_python_meets_it(tmp_path, order):
    labels = np.array(["ab", "cd"] * 6, f"{order}U2")
    labels.view(f"{order}u4")[7] = 0x7F000064                           # a flipped bit in row 3
    np.savez(tmp_path / "data.npz", X=np.eye(12, 4), y=labels)
    np.save(tmp_path / "x.npy", np.eye(12, 4))
    np.save(tmp_path / "y.npy", labels)
    for read in (load_dataset, read_examples):
        with pytest.raises(DataError, match=r"data\.npz: the label of row 3 is no text"):
            read(tmp_path / "data.npz")
    with pytest.raises(DataError, match=r"y\.npy: the label of row 3 is no text"):
        load_dataset(tmp_path / "x.npy", target=str(tmp_path / "y.npy"))


@pytest.mark.parametrize("digits", [20, 309, 400])
def test_the_first_whole_number_that_64_bits_do_not_hold_is_named(tmp_path, digits):
    (tmp_path / "data.csv").write_text("a,kind\n1,x\n" + "9" * digits + ",y\n")
    with pytest.raises(DataError, match=r"data\.csv: column 'a' has 99999.* in row 1, more than 64 bits hold"):
        load_dataset(tmp_path / "data.csv", target="kind")
