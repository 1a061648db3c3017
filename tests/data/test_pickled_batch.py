"""Pickled batches: every honest form is read, and nothing that a hostile one asks for happens."""

import collections
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp.data import pickled_batch
from fastmlp.data.pickled_batch import read_pickled_batch
from fastmlp.errors import DataError

IMAGES = np.random.default_rng(1).integers(0, 256, (6, 300), np.uint8)
LABELS = np.array([9, 0, 1, 5, 5, 2])


def read(data, shape=IMAGES.shape):
    return read_pickled_batch(data, shape, "some/data_batch_1")


def test_official_python2_form_is_read(small):
    images, labels = read(small.python2_pickle(IMAGES, LABELS))
    np.testing.assert_array_equal(images, IMAGES)
    assert labels == LABELS.tolist()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("key", [str, str.encode])
def test_forms_pickled_anew_by_python3_are_read(small, protocol, key):
    images, labels = read(small.python3_pickle(IMAGES, LABELS, protocol, key))
    np.testing.assert_array_equal(images, IMAGES)
    assert labels == LABELS.tolist()


@pytest.mark.parametrize("protocol", [2, 4])
def test_names_of_numpy_1_are_known(small, protocol):
    data = small.python3_pickle(IMAGES, LABELS, protocol)
    old = data.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
    old = old.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    assert old != data
    np.testing.assert_array_equal(read(old)[0], IMAGES)


@pytest.mark.parametrize("name", [b"latin1", b"latin-1"])
def test_both_spellings_of_the_texts_encoding_are_known(small, name):
    data = small.python3_pickle(IMAGES, LABELS, 2)
    assert data.count(b"X\x06\x00\x00\x00latin1") == 1
    again = data.replace(b"X\x06\x00\x00\x00latin1", b"X" + len(name).to_bytes(4, "little") + name)
    np.testing.assert_array_equal(read(again)[0], IMAGES)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_batch_that_remembers_more_than_a_byte_can_number_is_read(protocol):
    names = [b"%d.png" % number for number in range(300)]       # each is remembered, and the second time looked up
    data = pickle.dumps({"filenames": names * 2, "labels": LABELS.tolist(), "data": IMAGES}, protocol)
    assert "LONG_BINGET" in {instruction.name for instruction, *_ in pickletools.genops(data)}
    np.testing.assert_array_equal(read(data)[0], IMAGES)


def test_a_batch_with_a_table_of_one_entry_is_read():
    data = pickle.dumps({"labels": LABELS.tolist(), "data": IMAGES, "about": {"batch": 1}}, 2)
    assert {"SETITEM", "SETITEMS"} <= {instruction.name for instruction, *_ in pickletools.genops(data)}
    np.testing.assert_array_equal(read(data)[0], IMAGES)


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile_values(marker):
    command = f"{sys.executable} -c \"open(r'{marker}', 'w')\""
    return {
        "system": Call(os.system, command),
        "popen": Call(subprocess.Popen, command),
        "eval": Call(eval, f"open({str(marker)!r}, 'w')"),
        "open": Call(open, str(marker), "w"),
        "getattr": Call(getattr, 1, "real"),
        "ordered dict": collections.OrderedDict(a=1),
        "numpy load": Call(np.load, str(marker)),
        "object array": np.array([Call(os.system, command)], object),
        "huge void": np.zeros(1, "V999"),
        "structured": np.zeros(1, [("a", "u1")]),
        "floats": np.zeros((6, 300)),
        "one axis": IMAGES.ravel(),
        "text": "data",
        "nothing": None,
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("place", ["data", "labels", "filenames", "whole"])
@pytest.mark.parametrize("name", ["system", "popen", "eval", "open", "getattr", "numpy load", "object array"])
def test_no_call_of_a_hostile_pickle_is_made(tmp_path, protocol, place, name):
    marker = tmp_path / "executed"
    value = hostile_values(marker)[name]
    batch = {"labels": LABELS.tolist(), "data": IMAGES}
    program = pickle.dumps(value if place == "whole" else {**batch, place: value}, protocol)
    with pytest.raises(DataError, match="some/data_batch_1 is not a CIFAR-10 batch: it "):
        read(program)
    assert not marker.exists()


def test_the_hostile_pickles_would_do_harm_elsewhere(tmp_path):
    marker = tmp_path / "executed"
    pickle.loads(pickle.dumps(hostile_values(marker)["system"]))
    assert marker.exists()


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("name", ["ordered dict", "huge void", "structured", "floats", "one axis", "text", "nothing"])
def test_data_that_is_no_byte_matrix_is_refused(tmp_path, protocol, name):
    value = hostile_values(tmp_path / "executed")[name]
    with pytest.raises(DataError, match="some/data_batch_1"):
        read(pickle.dumps({"labels": LABELS.tolist(), "data": value}, protocol))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_fortran_order_is_refused_rather_than_misread(tmp_path, protocol):
    with pytest.raises(DataError, match="needs"):
        read(pickle.dumps({"labels": LABELS.tolist(), "data": np.asfortranarray(IMAGES)}, protocol))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1.0] * 6, "not a list of integers"),
        ([True] * 6, "not a list of integers"),
        (tuple(range(6)), "not a list of integers"),
        (list(range(5)), "has 5 entries; expected 6"),
        (None, "not a list of integers"),
    ],
)
def test_labels_of_another_kind_are_refused(labels, message):
    with pytest.raises(DataError, match=r"FLOAT|" + message):
        read(pickle.dumps({"labels": labels, "data": IMAGES}, 4))


def test_array_of_another_shape_is_refused(small):
    with pytest.raises(DataError, match=r"shape \(6, 300\) and 1800 bytes; expected \(6, 301\)"):
        read(small.python2_pickle(IMAGES, LABELS), (6, 301))


@pytest.mark.parametrize("dtype", [b"O", b"V999999999", b"u2", b"S1", b"O8"])
def test_array_of_another_dtype_is_refused(small, dtype):
    with pytest.raises(DataError, match=r"calls numpy\.dtype"):
        read(small.python2_pickle(IMAGES, LABELS, dtype))


# Programs that make Python's own machine allocate gigabytes, loop, or overflow; each is a few bytes to a few MB.
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
HOSTILE_PROGRAMS = {
    "memo index": b"\x80\x02Nr\xff\xff\xff\xff.",
    "huge reconstruct": b"\x80\x02" + RECONSTRUCT + b"J\x00\x00\x00\x7f\x85U\x01btR.",
    "declared text": b"\x80\x02T\xff\xff\xff\x7fabc.",
    "declared bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc.",
    "declared frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "deep tuple": b"\x80\x02}U\x04dataN" + b"\x85" * 200_000 + b"s.",
    "deep shape": b"\x80\x02}U\x04data" + RECONSTRUCT + b"K\x00\x85U\x01btR(K\x01N" + b"\x85" * 200_000
    + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\x89U\x01atbs.",
    "text copied often": b"\x80\x02U\x06latin1q\x01X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
    + b"q\x020" + b"c_codecs\nencode\nh\x02h\x01\x86R" * 10_000 + b".",
    "list in itself": b"\x80\x02]q\x01h\x01a.",
    "unhashable key": b"\x80\x02}]Ns.",
    "odd items": b"\x80\x02}(U\x01au.",
    "empty stack": b"\x80\x02R.",
    "no memo": b"\x80\x02h\x05.",
    "no mark": b"\x80\x02t.",
    "build on a name": b"\x80\x02cos\nsystem\n}b.",
    "persistent id": b"\x80\x02Pspam\n.",
    "extension": b"\x80\x02\x82\x01.",
    "new object": b"\x80\x02cbuiltins\nobject\n)\x81.",
    "instance": b"(ios\nsystem\n.",
    "reduce on text": b"\x80\x02U\x01a)R.",
    "not latin-1": b"\x80\x02}(U\x06labels](K\x00K\x01eU\x04data" + RECONSTRUCT
    + b"K\x00\x85U\x01btR(K\x01K\x02K\x01\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
    + b"\x89X\x04\x00\x00\x00a\xe2\x82\xactbu.",
    "odd escape": b"\x80\x02S'\\\x9a'\n.",
    "no stop": b"\x80\x02N",
    "empty": b"",
    "noise": bytes(range(256)),
    "text file": b"<html>404</html>",
}


@pytest.mark.parametrize("name", HOSTILE_PROGRAMS)
def test_hostile_programs_end_in_one_error_and_little_memory(name):
    program = HOSTILE_PROGRAMS[name]
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="is not a CIFAR-10 batch") as caught:
            read(program)
        assert tracemalloc.get_traced_memory()[1] < 120e6
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 300


def test_program_of_too_many_instructions_is_refused():
    program = b"\x80\x02" + b"]" * pickled_batch.MAX_INSTRUCTIONS + b"."
    with pytest.raises(DataError, match="more than 250000 instructions"):
        read(program)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(cut=st.integers(0, 2200), position=st.integers(0, 2200), byte=st.integers(0, 255))
def test_damaged_batches_are_read_or_refused_but_never_crash(cut, position, byte):
    whole = pickle.dumps({"labels": LABELS.tolist(), "data": IMAGES}, 4)
    damaged = bytearray(whole)
    damaged[position % len(whole)] = byte
    for data in (whole[: cut % len(whole)], bytes(damaged)):
        try:
            images, labels = read(data)
        except DataError:
            continue
        assert images.shape == IMAGES.shape
        assert len(labels) == len(LABELS)
