"""Whatever can be written in a format comes back unchanged, or is refused in one sentence."""

import json
import pickle

import numpy as np
import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pyarrow import parquet

from fastmlp.backend import resolve
from fastmlp.config import TrainOptions
from fastmlp.data.npy import read_npy
from fastmlp.data.npz import read_npz
from fastmlp.data.parquet_rows import read_parquet_to_disk
from fastmlp.data.pickled_batch import read_pickled_batch
from fastmlp.data.standardize import Standardizer
from fastmlp.data.tables import read_table
from fastmlp.data.validate import encode_labels
from fastmlp.errors import ConfigError, DataError
from fastmlp.layout import NetworkSpec
from fastmlp.model import Model, load_model, save_model
from fastmlp.network import Network
from fastmlp.options import build, read_toml, rules
from fuzz.verdict import sentence_problem

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None,
                 suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
TEXT = st.text(st.sampled_from("=+-@'\",;\t #\\/.%\0\x1b\u202e") | st.characters(codec="utf-8"), max_size=5)
DTYPES = st.sampled_from(["?", "i1", "u1", "<i2", ">i4", "i8", "u8", "f2", "<f4", ">f4", "f8", "g", "c8", "U3", "S2",
                          "M8[s]"]) | st.sampled_from(["?", "u1", ">i4", "f2", ">f4", "f8"])
SHAPES = arrays.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4)
NUMBERS = st.floats(allow_nan=False) | st.floats() | st.integers(-2**62, 2**62)
REFUSALS = (DataError, ConfigError)


def refused(read, path):
    """The result, or None where it is refused in a sentence that is one."""
    try:
        return read(path)
    except REFUSALS as error:
        problem = sentence_problem(str(error), path)
    assert problem is None
    return None


@QUICK
@given(x=arrays.arrays(DTYPES, SHAPES), compressed=st.booleans())
def test_arrays_of_any_dtype_and_shape(tmp_path, x, compressed):
    (np.savez_compressed if compressed else np.savez)(tmp_path / "data.npz", X=x)
    np.save(tmp_path / "X.npy", x)
    examples = [refused(lambda path: read_npz(path)[0], tmp_path / "data.npz"), refused(
        lambda path: read_npy(path, None, memory=10**9, needs_target=False), tmp_path / "X.npy"), refused(
        lambda path: read_npy(path, None, memory=0, needs_target=False), tmp_path / "X.npy")]
    may_be_read = x.ndim in (2, 3, 4) and (x.dtype.kind in "biu" or x.dtype.str[1:] in ("f2", "f4", "f8"))
    in_memory, from_file, on_disk = examples
    assert (in_memory is not None, from_file is not None) == (may_be_read, may_be_read)
    for read in examples:
        if read is not None:
            np.testing.assert_array_equal(np.asarray(read.x).ravel(), x.ravel().astype(read.x.dtype))
            assert len(read.x) == len(x)
    assert on_disk is not None or not may_be_read or not x.flags.c_contiguous


@st.composite
def tables(draw):
    """Columns of numbers, a column of text, and names of any kind."""
    names = draw(st.lists(TEXT.filter(bool), min_size=2, max_size=4, unique=True) | st.lists(TEXT, min_size=2))
    n = draw(st.integers(1, 5))
    columns = [draw(st.lists(NUMBERS, min_size=n, max_size=n)) for _ in names[1:]]
    return names, columns, draw(st.lists(draw(st.sampled_from([TEXT, TEXT.filter(bool)])), min_size=n, max_size=n))


@QUICK
@given(table=tables())
def test_tables_in_csv(tmp_path, table):
    names, columns, labels = table
    path = tmp_path / "data.csv"
    frame = pandas.DataFrame(dict(enumerate([*columns, labels])))
    frame.columns = names
    frame.to_csv(path, index=False, encoding="utf-8", errors="replace")
    examples = refused(lambda path: read_table(path, names[-1]), path)
    if examples is None:
        return
    assert list(examples.feature_names) == names[:-1]
    for column, values in enumerate(columns):
        np.testing.assert_array_equal(np.asarray(examples.x[:, column], float), np.array(values, float))
    if examples.y.dtype.kind == "O" and not any(set(label) & {"\0", "\r"} for label in labels):
        assert examples.y.tolist() == labels


@QUICK
@given(table=tables())
def test_tables_in_parquet_are_the_same_in_memory_and_on_disk(tmp_path, table):
    names, columns, labels = table
    path = tmp_path / "data.parquet"
    filled = [*map(pyarrow.array, map(np.array, columns)), pyarrow.array(labels)]
    parquet.write_table(pyarrow.Table.from_arrays(filled, names), path)
    examples = refused(lambda path: read_table(path, names[-1]), path)
    on_disk = refused(lambda path: read_parquet_to_disk(path, names[-1], memory=1), path)
    assert (examples is None) == (on_disk is None)
    if examples is not None:
        assert list(examples.feature_names) == names[:-1]
        assert examples.y.tolist() == on_disk.y.tolist() == labels
        np.testing.assert_array_equal(np.asarray(on_disk.x), examples.x)
        for column, values in enumerate(columns):
            np.testing.assert_array_equal(np.asarray(examples.x[:, column], float), np.array(values, float))


@QUICK
@given(labels=st.lists(TEXT, min_size=1, max_size=8))
def test_labels_of_any_text_are_numbered_so_that_they_come_back(labels):
    codes, classes = encode_labels(np.array(labels, object))
    assert [label.rstrip("\0") for label in labels] == classes[codes].tolist()      # as NumPy's arrays of text are
    assert sorted(set(classes.tolist())) == classes.tolist()


def test_labels_that_differ_in_trailing_nulls_are_one_class_and_long_ones_take_little():
    assert encode_labels(np.array(["a\0", "a", "b"], object))[0].tolist() == [0, 0, 1]
    with pytest.raises(DataError, match="1000 different texts of up to 100000 characters"):
        encode_labels(np.array([f"{number:0100000}" for number in range(1000)], object))


@QUICK
@given(labels=st.lists(TEXT, min_size=2, max_size=4, unique=True),
       names=st.none() | st.lists(TEXT, min_size=2, max_size=2),
       extra=st.none() | st.dictionaries(TEXT, st.recursive(st.none() | st.booleans() | NUMBERS.filter(
           lambda x: x == x) | TEXT, st.lists, max_leaves=4)))
def test_models_with_any_labels_and_names(tmp_path, labels, names, extra):
    network = Network(NetworkSpec(2, (3,), len(labels)), resolve("cpu"))
    network.initialize([0])
    path = tmp_path / "model.safetensors"
    classes = np.array(labels)
    model = Model(network, Standardizer(np.zeros(2), np.ones(2)), classes, None, names and tuple(names), extra)
    save_model(path, model)
    loaded = refused(lambda path: load_model(path, resolve("cpu")), path)
    if loaded is None:
        assert len(set(classes.tolist())) < len(labels)         # a null at the end of one
        return
    assert loaded.classes.tolist() == classes.tolist()
    assert loaded.feature_names == model.feature_names
    assert loaded.extra == extra
    np.testing.assert_array_equal(loaded.predict_proba(np.eye(2)), model.predict_proba(np.eye(2)))


@QUICK
@given(x=arrays.arrays("u1", (3, 5)), labels=st.lists(st.integers(-10, 300) | NUMBERS | TEXT, max_size=4),
       protocol=st.integers(0, 5), others=st.dictionaries(st.text(max_size=3), st.integers(0, 255) | TEXT, max_size=2))
def test_pickled_batches(x, labels, protocol, others):
    others = {key: value for key, value in others.items() if key not in ("data", "labels")}
    program = pickle.dumps({**others, "labels": labels, "data": x}, protocol)
    read = None
    try:
        read = read_pickled_batch(program, (3, 5), "some/data_batch_1")
    except DataError as error:
        assert "some/data_batch_1" in str(error)        # noqa: PT017
    if read is not None:
        np.testing.assert_array_equal(read[0], x)
        assert read[1] == labels
    elif protocol >= 2 and not others:
        assert len(labels) != 3 or any(type(label) is not int or abs(label) > 2**30 for label in labels)


def toml(value):
    """A value as TOML writes it."""
    if isinstance(value, float) and not np.isfinite(value):
        return {"inf": "inf", "-inf": "-inf", "nan": "nan"}[str(value)]
    return json.dumps(value).replace("\x7f", "\\u007f")


@QUICK
@given(name=st.sampled_from(sorted(rules(TrainOptions))),
       value=st.recursive(st.booleans() | NUMBERS | TEXT | st.sampled_from([10**400, -1, 0, 1, "1-5", "0.1..1:3"]),
                          lambda inner: st.lists(inner, max_size=3), max_leaves=4))
def test_options_of_any_value(tmp_path, name, value):
    path = tmp_path / "options.toml"
    path.write_text(f"{name} = {toml(value)}\n", encoding="utf-8")
    given_by_file = refused(lambda path: read_toml(path, TrainOptions), path)
    if given_by_file is not None:
        assert set(given_by_file) == {name}
        try:
            build(TrainOptions, given_by_file)
        except ConfigError as error:
            assert str(error).isprintable()     # noqa: PT017
